"""A store as its readers see it: whole committed chunks, the same set in every table."""

from __future__ import annotations

import copy
import functools
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from segpipe.errors import SpecError
from segpipe.geometry import Box
from segpipe.schema import TRUTH_MODELS, arrow_schema
from segpipe.store import layout
from segpipe.store.compaction import newest_compaction
from segpipe.store.damage import named_damage
from segpipe.store.files import Files, LocalFiles
from segpipe.store.leases import is_live, live_runs
from segpipe.store.masks import MaskStack
from segpipe.store.missing import missing_images
from segpipe.store.ome_zarr import count_levels, level_shape
from segpipe.store.tables import box_meets
from segpipe.store.tombstones import hidden_chunks, is_forgotten

if TYPE_CHECKING:
    import zarr

Row = dict[str, Any]


class Snapshot:
    """The chunks that were published when the snapshot was made; later ones are not in it."""

    def __init__(self, files: Files, model: str | None = None) -> None:
        self.files = files
        self.model = model
        self._of_run = False
        hidden = hidden_chunks(files)
        self._compaction = newest_compaction(files)
        if self._compaction and not self._compaction.chunks.isdisjoint(hidden):
            self._compaction = None  # it is about to be dropped
        published = (name.removesuffix(".parquet") for name in files.names("images"))
        self.chunk_ids = tuple(sorted(chunk for chunk in published if chunk not in hidden))
        self._chunk_objects = functools.lru_cache(maxsize=4)(self._read_chunk_objects)
        self._stack = functools.lru_cache(maxsize=8)(functools.partial(MaskStack, files))

    def of_chunks(self, chunk_ids: Iterable[str]) -> Self:
        """The same store with these chunks alone, as far as it has them."""
        part = copy.copy(self)
        part.chunk_ids = tuple(sorted(set(self.chunk_ids).intersection(chunk_ids)))
        part._compaction = None
        return part

    def of_run(self, run_id: str) -> Self:
        """The same store with the results of one run alone.

        Raises:
            SpecError: the run has no results here.
        """
        rows = self.read("images", ["chunk_id"], ds.field("run_id") == run_id)
        if not len(rows):
            raise SpecError(
                f"no results of run {run_id!r} in this store; `segpipe show` lists the runs"
            )
        part = self.of_chunks(pc.unique(rows["chunk_id"]).to_pylist())
        part._of_run = True
        return part

    def of_model(self, model: str | None) -> Self:
        """The same store, where images have only the results of one model; None for all models.

        Raises:
            SpecError: the model has no results here.
        """
        if model is None:
            return self
        known = pc.unique(self.read("images", ["model"])["model"]).to_pylist()
        if model not in known:
            names = ", ".join(sorted(known)) or "none"
            raise SpecError(f"no results of model {model!r} in this store; it has: {names}")
        part = copy.copy(self)
        part.model = model
        return part

    def parts(self, table: str) -> list[str]:
        """Paths, relative to the store, of the Parquet files that hold `images` or `objects`.

        For both tables they hold the same chunks, each exactly once: those of the newest
        compaction, and the chunks published since.
        """
        compacted = self._compaction.parts(table) if self._compaction else []
        covered = self._compaction.chunks if self._compaction else frozenset()
        since = [chunk_id for chunk_id in self.chunk_ids if chunk_id not in covered]
        return compacted + [layout.published_part(chunk_id, table) for chunk_id in since]

    def parquet_files(self, table: str) -> list[Path] | None:
        """`parts` as paths of this machine, all with the columns of the schema.

        None where the store is not in a folder, or holds parts of an older format: see `dataset`.
        """
        if not isinstance(self.files, LocalFiles) or _holds_older_parts(self.files):
            return None
        return [self.files.local_path(path) for path in self.parts(table)]

    def dataset(self, table: str) -> ds.Dataset:
        """`images` or `objects` as an Arrow dataset: lazy, any number of parts.

        A column that a part does not have is null there.
        """
        return ds.dataset(
            self.parts(table),
            schema=arrow_schema(table),
            format="parquet",
            filesystem=self.files.arrow(),
        )

    def read(
        self, table: str, columns: Sequence[str] | None = None, where: pc.Expression | None = None
    ) -> pa.Table:
        """Rows of `images` or `objects`.

        Raises:
            StoreError: a part is damaged; names it.
        """
        with named_damage(self, table):
            chosen = None if columns is None else list(columns)
            return self.dataset(table).to_table(columns=chosen, filter=where)

    def records(self) -> list[Row]:
        """The records of all runs, oldest first.

        `status` is what the run said last, or what became of it since: `died` where it says that
        it is running and nobody renews its lease, `forgotten` where its results were removed.
        """
        live = live_runs(self.files)
        found = []
        for run in sorted(self.files.names(layout.RUNS)):
            path = layout.run_file(run, "record.json")
            if not self.files.exists(path):
                continue  # it died while it planned
            record = json.loads(self.files.read(path))
            if record.get("status") == "running" and not is_live(run, live):
                record["status"] = "died"
            if is_forgotten(self.files, run):
                record["status"] = "forgotten"
            found.append(record)
        return found

    def missing_images(self, records: Iterable[Row] | None = None) -> pa.Table:
        """Images that were gone from their place when it was listed last.

        Columns: image_id, uri, path, and `since`, the id of the run that noticed first.

        Args:
            records: what `records` returned, if that is known already.
        """
        return missing_images(self.files, self.records() if records is None else records)

    def image_rows(self, latest: bool = True) -> Iterator[Row]:
        """Rows of `images`, ordered by path; if `latest`, only the newest result of each image."""
        for batch in self._images(ds.scalar(True), latest).to_batches(max_chunksize=1024):
            yield from batch.to_pylist()

    def image_row(self, image_id: str, chunk_id: str) -> Row:
        """The row of `images` that a chunk has of an image, a truth's too.

        Raises:
            SpecError: the snapshot has no such chunk, or the chunk no such image.
            StoreError: the chunk's part is damaged.
        """
        own = self.of_chunks([chunk_id])
        rows = own.read("images", where=ds.field("image_id") == image_id).to_pylist()
        if not rows:
            raise SpecError(
                f"{self.files.address}: no result of image {image_id[:80]!r} in chunk {chunk_id}; "
                "it may have been forgotten since: look again"
            )
        return dict(rows[0])

    def find_image(self, name: str) -> Row:
        """The newest row of an image, by `image_id`, path in the collection, uri, or file name.

        A truth that was imported is left out, unless the snapshot is of it alone.

        Raises:
            SpecError: there is none, or the name fits several images.
        """
        path = ds.field("path")
        exact = (path == name) | (ds.field("image_id") == name) | (ds.field("uri") == name)
        found = self._images(exact)
        if not len(found):
            found = self._images(pc.ends_with(path, f"/{name}"))
        if len(found) == 1:
            return dict(found.to_pylist()[0])
        if len(found):
            paths = ", ".join(found["path"].to_pylist()[:5])
            raise SpecError(f"{name!r} fits {len(found)} images: {paths}; give the whole path")
        raise SpecError(
            f"no image {name!r} in this store; see the columns image_id and path of "
            "latest_images (segpipe query)"
        )

    def _images(self, where: pc.Expression, latest: bool = True) -> pa.Table:
        if self.model is not None:
            where &= ds.field("model") == self.model
        elif latest and not self._of_run:
            # A truth that was imported later is no newer result.
            where &= ~is_truth()
        table = self.read("images", where=where)
        if latest and len(table):
            newest = table.group_by("image_id").aggregate([("run_id", "max")])
            newest = newest.rename_columns({"run_id_max": "run_id"})
            table = table.join(newest, ["image_id", "run_id"], join_type="inner")
        return table.sort_by("path")

    def object_table(self, image: Row, part: Box | None = None) -> pa.Table:
        """Rows of `objects` of one image row, in label order.

        Args:
            part: of the image; only objects whose box has a pixel there.
        """
        wanted = pc.field("image_id") == image["image_id"]
        if part is not None:
            wanted &= box_meets(part)
        return self._chunk_objects(image["chunk_id"]).filter(wanted).sort_by("label")

    def objects_of(self, image: Row, part: Box | None = None) -> list[Row]:
        """The same, each as a dictionary: about 2 kB in memory."""
        return list(self.each_object(image, part))

    def each_object(self, image: Row, part: Box | None = None) -> Iterator[Row]:
        """The same, some of them in memory at a time."""
        for batch in self.object_table(image, part).to_batches(max_chunksize=1024):
            yield from batch.to_pylist()

    def levels(self, image: Row) -> list[tuple[int, int]]:
        """(height, width) of each size in which the masks of an `ok` row are stored, its own first.

        Each level is half as high and wide as the one before, rounded up.
        """
        shape = image["height"], image["width"]
        count = count_levels(shape) if is_large(image) else 1
        return [level_shape(shape, level) for level in range(count)]

    def label_image(
        self, image: Row, part: Box | None = None, level: int = 0
    ) -> npt.NDArray[np.unsignedinteger[Any]]:
        """(H, W) uint16 or uint32: the label image of an `ok` image row.

        Args:
            part: of the level, not empty; only that is read and returned.
            level: one of `levels`.
        """
        return self._mask(image, "mask_array", part, level)

    def semantic(
        self, image: Row, part: Box | None = None, level: int = 0
    ) -> npt.NDArray[np.unsignedinteger[Any]] | None:
        """(H, W) uint8 class per pixel, or None where the model has none; the rest as above."""
        if not image["semantic_array"]:
            return None
        return self._mask(image, "semantic_array", part, level)

    def georeference(self, image: Row) -> dict[str, Any] | None:
        """Where on Earth a large image lies: `affine`, `epsg` and `tags`, see docs/format.md.

        Args:
            image: an `ok` row with `is_large`.
        """
        import zarr

        masks = image["mask_array"].removesuffix("/label_image/0")
        group = zarr.open_group(self.files.zarr(masks), mode="r", zarr_format=3)
        return cast("dict[str, Any] | None", group.attrs.get("georeference"))

    def _mask(
        self, image: Row, column: str, part: Box | None, level: int
    ) -> npt.NDArray[np.unsignedinteger[Any]]:
        if image["status"] != "ok":
            raise SpecError(f"{image['path']}: has no masks: {image['reason']}: {image['detail']}")
        path = f"{image[column].rpartition('/')[0]}/{level}" if level else image[column]
        return self._stack(path).read(image["mask_index"], self.levels(image)[level], part)

    def zarr_array(self, path: str) -> zarr.Array[Any]:
        """The masks of a chunk, (N, H, W), or of a large image, (H, W), as zarr-python opens them.

        They are to be read only.

        Args:
            path: as in the columns `mask_array` and `semantic_array`.
        """
        import zarr

        return zarr.open_array(self.files.zarr(path), mode="r", zarr_format=3)

    def _read_chunk_objects(self, chunk_id: str) -> pa.Table:
        part = layout.published_part(chunk_id, "objects")
        with named_damage(self.of_chunks([chunk_id]), "objects"):
            return pq.read_table(part, filesystem=self.files.arrow())


def is_large(image: Row) -> bool:
    """Of an `ok` row of `images`: its masks are a pyramid of their own, in no stack."""
    return image["mask_index"] is None


def is_truth() -> pc.Expression:
    """Of a row of `images`: it is of a truth that was imported."""
    model = pc.coalesce(ds.field("model"), ds.scalar(""))
    return pc.match_substring_regex(model, f"^{TRUTH_MODELS}$")


def _holds_older_parts(files: Files) -> bool:
    try:
        marker = json.loads(files.read(layout.MARKER))
    except FileNotFoundError:
        return False  # nothing is there yet
    return marker["format_version"] != layout.FORMAT_VERSION or "raised_from" in marker
