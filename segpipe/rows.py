"""From results to rows: what a chunk writes, image by image, and its commit at the end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Set
from dataclasses import dataclass
from typing import Any

import numpy as np

from segpipe.errors import InputError
from segpipe.object_rows import ObjectRows, Objects
from segpipe.records import Chunk, Commit, DecodedImage, Header, ImageRef, Segmentation
from segpipe.schema import IMAGES
from segpipe.spec import SegmentSpec
from segpipe.store.commits import Attempt
from segpipe.store.masks import ArrayName, MaskWriter
from segpipe.store.pyramids import PyramidWriter

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class About:
    """What is known of an image besides its pixels; as in `DecodedImage`."""

    header: Header
    sha256: str
    n_nonfinite: int

    @classmethod
    def of(cls, image: DecodedImage) -> About:
        return cls(image.header, image.sha256, image.n_nonfinite)


class ChunkTables:
    """The masks and rows of one attempt at a chunk, in the order in which images finish."""

    def __init__(
        self,
        chunk: Chunk,
        spec: SegmentSpec,
        run_id: str,
        attempt: Attempt,
        label_type: type[np.uint16 | np.uint32],
    ) -> None:
        self._chunk = chunk
        self._spec = spec
        self._attempt = attempt
        self._dtypes: dict[ArrayName, Any] = {"label_image": label_type}
        if spec.model.task == "semantic":
            self._dtypes["semantic"] = np.uint8
        self._keys: Row = {
            "run_id": run_id,
            "spec_id": spec.spec_id,
            "chunk_id": chunk.chunk_id,
        }
        self._masks: MaskWriter | None = None
        self._images: dict[str, Row] = {}
        self._objects = ObjectRows(spec.model.classes)

    def plan_masks(self, shapes: list[tuple[int, int]], large: bool = False) -> None:
        """Say which (height, width) may come; without any, and no large one, there are no masks.

        Args:
            shapes: of images that are not large.
            large: whether others may come.
        """
        if shapes or large:
            self._masks = self._attempt.mask_writer(shapes, self._dtypes if shapes else {})

    def add_failure(self, ref: ImageRef, error: InputError, header: Header | None = None) -> None:
        """The one row of an image without a result."""
        self._images[ref.image_id] = {
            **self._about(ref, header),
            "status": "failed",
            "reason": str(error.reason),
            "detail": error.detail,
        }

    def add(
        self,
        ref: ImageRef,
        image: DecodedImage,
        segmentation: Segmentation,
        measures: Mapping[str, Any],
        seconds: tuple[float, float, float],
    ) -> None:
        """The masks, the objects and the one row of an image.

        Args:
            measures: the columns of `objects` that `measure_objects` gives.
            seconds: of decoding, of the forward pass and of finishing.
        """
        if self._masks is None:
            raise RuntimeError("plan_masks was not told of this image")
        planes: dict[ArrayName, Any] = {"label_image": segmentation.label_image}
        if segmentation.semantic is not None:
            planes["semantic"] = segmentation.semantic
        place = self._place(self._attempt.group, "", self._masks.append(planes))
        self._add(ref, About.of(image), segmentation, measures, place, seconds)

    def large_masks(self, ref: ImageRef, shape: tuple[int, int]) -> PyramidWriter:
        """Where the masks of a large image go, for `add_large`."""
        dtypes = {**self._dtypes, "label_image": np.uint32}
        return self._attempt.pyramid_writer(ref.image_id, shape, dtypes)

    def add_large(
        self,
        ref: ImageRef,
        about: About,
        objects: Objects,
        measures: Mapping[str, Any],
        masks: PyramidWriter,
        seconds: tuple[float, float, float],
    ) -> None:
        """The same of an image whose masks were written block by block."""
        self._attempt.close_masks(masks)
        place = self._place(masks.group, "/0", None)
        self._add(ref, about, objects, measures, place, seconds)

    def _place(self, group: str, level: str, index: int | None) -> Row:
        """Where masks are; `level` is behind the name of the array."""
        return {
            "mask_array": f"{group}/label_image{level}",
            "mask_index": index,
            "semantic_array": f"{group}/semantic{level}" if "semantic" in self._dtypes else None,
        }

    def _add(
        self,
        ref: ImageRef,
        about: About,
        objects: Objects,
        measures: Mapping[str, Any],
        place: Row,
        seconds: tuple[float, float, float],
    ) -> None:
        keys = {**self._keys, "image_id": ref.image_id}
        shown = {name: place[name] for name in ("mask_array", "mask_index")}
        self._objects.add({**keys, **shown}, objects, measures, about.header.pixel_size_um)
        self._images[ref.image_id] = {
            **self._about(ref, about.header),
            **place,
            "sha256": about.sha256,
            "status": "ok",
            "n_nonfinite": about.n_nonfinite,
            "n_objects": len(objects.scores),
            "n_discarded": objects.n_discarded,
            "saturated": objects.saturated,
            **dict(
                zip(("decode_seconds", "forward_seconds", "finish_seconds"), seconds, strict=True)
            ),
        }

    def commit(
        self, changed: Set[str], seconds: Mapping[str, float], ceilings: Mapping[str, int]
    ) -> Commit:
        """Write the tables and commit.

        Args:
            changed: ids of images that changed meanwhile.
            seconds, ceilings: as in `Commit`.
        """
        if self._masks is not None:
            self._attempt.close_masks(self._masks)
        rows = [self._images[ref.image_id] for ref in self._chunk.images]
        for row in rows:
            row["input_changed"] = row["image_id"] in changed
        columns = {column.name: [row.get(column.name) for row in rows] for column in IMAGES}
        self._attempt.write_table("objects", self._objects.columns())
        self._attempt.write_table("images", columns)
        ok = [row for row in rows if row["status"] == "ok"]
        return self._attempt.commit(
            n_images=len(rows),
            n_ok=len(ok),
            n_objects=sum(row["n_objects"] for row in ok),
            failures=dict(Counter(row["reason"] for row in rows if row.get("reason"))),
            seconds=dict(seconds),
            ceilings=dict(ceilings),
        )

    def _about(self, ref: ImageRef, header: Header | None) -> Row:
        row: Row = {
            **self._keys,
            "image_id": ref.image_id,
            "model": self._spec.model.name,
            "uri": ref.uri,
            "path": ref.path,
            "size_bytes": ref.size_bytes,
            "mtime_ns": ref.mtime_ns,
            "etag": ref.etag,
        }
        if header is not None:
            row |= {name: getattr(header, name) for name in _HEADER_COLUMNS}
            y, x = header.pixel_size_um or (None, None)
            row |= {"pixel_size_y_um": y, "pixel_size_x_um": x}
        return row


_HEADER_COLUMNS = (
    "height",
    "width",
    "channels",
    "dtype",
    "format",
    "decoder",
    "orientation",
    "n_frames",
)
