"""The pixels that the rows of a query are about: crops of objects, overlays of images.

Each image is read once, in the order in which the masks lie. One that is gone, or is not the one
that was segmented, is named in the summary, and the others are written.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.dataset as ds

from segpipe.errors import InputError, SpecError
from segpipe.export.files import write_below
from segpipe.export.naming import Naming
from segpipe.export.pixels import encode_pixels, suffix_of
from segpipe.geometry import Box
from segpipe.masks.of_object import mask_in, object_box
from segpipe.query import format_table
from segpipe.readers import Reader
from segpipe.records import CroppedMask, Pixels
from segpipe.report.picture import draw_row
from segpipe.report.source import Source, limits_of, open_source
from segpipe.store.object_masks import masks_of
from segpipe.store.snapshot import Row, Snapshot

INDEX = "index.csv"


@dataclass(slots=True)
class PicturesWritten:
    """What was written, and what could not be.

    Attributes:
        written: crops, or overlays.
        images: read for them.
        left_out: path of an image -> why nothing of it was written.
    """

    out: str
    what: str
    written: int = 0
    images: int = 0
    left_out: dict[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def to_text(self) -> str:
        """For a terminal, free of markup."""
        lines = [f"{self.out}: {self.written:,} {self.what} from {self.images:,} images"]
        for path, why in list(self.left_out.items())[:20]:
            lines.append(f"  nothing of {path}: {why}")
        if len(self.left_out) > 20:
            lines.append(f"  nothing of {len(self.left_out) - 20:,} other images")
        return "\n".join(lines)


def write_overlays(snapshot: Snapshot, answer: pa.Table, out: Path) -> PicturesWritten:
    """The overlay of each image in an answer: `a/b/c.tif` becomes `OUT/a/b/c.png`.

    `OUT/index.csv` has the rows of the answer, each with the path of its image and the name of its
    file.

    Args:
        answer: with a column `image_id`; `run_id` or `chunk_id` beside it say which result is
            meant, else it is the newest.

    Raises:
        SpecError: there is no such column, or a file cannot be written.
    """
    written = PicturesWritten(str(out), "overlays")
    wanted = _rows(answer, ("image_id",))
    index: list[Row] = []

    def write(image: Row, source: Source, place: Place, rows: Sequence[Row]) -> None:
        picture = draw_row(snapshot, image, source).picture
        write_below(out, place(".png"), partial(picture.save, format="PNG"))
        index.extend({"path": image["path"], **row, "overlay": str(place(".png"))} for row in rows)
        written.written += 1

    _for_each_image(snapshot, wanted, written, write)
    _write_index(out, index)
    return written


def write_crops(snapshot: Snapshot, answer: pa.Table, out: Path, margin: int) -> PicturesWritten:
    """The pixels of each object in an answer, with and without what lies around it.

    Object 7 of `a/b/c.tif` becomes `OUT/a/b/c/7.png`, and `7.masked.png`, where all that is not
    the object is transparent. Values are those of the image: 16-bit grey stays so, and is 0
    outside the object; what PNG cannot hold becomes TIFF. `OUT/index.csv` has the rows of the
    answer, each with the path of its image and the names of its files.

    Args:
        answer: with the columns `image_id` and `label`; see `write_overlays`.
        margin: pixels around the object, as far as the image has them.

    Raises:
        SpecError: as `write_overlays`.
    """
    written = PicturesWritten(str(out), "objects")
    wanted = _rows(answer, ("image_id", "label"))
    index: list[Row] = []

    def write(image: Row, source: Source, place: Place, rows: Sequence[Row]) -> None:
        folder = place("")
        for row, one, mask in _wanted_masks(snapshot, image, rows, written):
            box = crop_box(image, one, margin)
            try:
                pixels = source.read(box)
            except InputError as error:  # of a large image, whose parts are read one by one
                written.left_out[f"{image['path']}, object {row['label']}"] = error.detail
                continue
            masked = cut_out(pixels, mask_in(mask, box))
            files: Row = {}
            for name, suffix, crop in (("crop", "", pixels), ("masked", ".masked", masked)):
                path = folder / f"{row['label']}{suffix}{suffix_of(crop)}"
                write_below(out, path, partial(encode_pixels, crop))
                files[name] = str(path)
            index.append({"path": image["path"], **row, **files})
            written.written += 1

    _for_each_image(snapshot, wanted, written, write)
    _write_index(out, index)
    return written


def _wanted_masks(
    snapshot: Snapshot, image: Row, rows: Sequence[Row], written: PicturesWritten
) -> Iterator[tuple[Row, Row, CroppedMask]]:
    """Rows of the answer that name an object, that object, and its mask; others are told."""
    wanted = {row["label"] for row in rows}
    table = snapshot.object_table(image)
    places = [i for i, label in enumerate(table["label"].to_pylist()) if label in wanted]
    objects = {one["label"]: one for one in table.take(places).to_pylist()}
    known = [row for row in rows if row["label"] in objects]
    for row in rows:
        if row["label"] not in objects:
            written.left_out[f"{image['path']}, object {row['label']}"] = "there is none"
    masks = masks_of(snapshot, image, (objects[row["label"]] for row in known))
    for row, (one, mask) in zip(known, masks, strict=True):
        yield row, one, mask


def _rows(answer: pa.Table, needed: Sequence[str]) -> list[Row]:
    absent = [name for name in needed if name not in answer.column_names]
    if absent:
        raise SpecError(
            f"the answer has no column {' and '.join(absent)}; select {', '.join(needed)} (and "
            "chunk_id, where an older result is meant)"
        )
    rows: list[Row] = answer.to_pylist()
    if empty := sum(any(row[name] is None for name in needed) for row in rows):
        raise SpecError(f"{empty:,} rows of the answer have no {' or '.join(needed)}")
    return rows


Place = Callable[[str], PurePosixPath]
"""The path below OUT that is an image's own, with a suffix."""

Write = Callable[[Row, Source, Place, Sequence[Row]], None]


def _for_each_image(
    snapshot: Snapshot, wanted: Sequence[Row], written: PicturesWritten, write: Write
) -> None:
    images = dict(_images(snapshot, wanted))
    groups: dict[str, list[Row]] = {}
    for row in wanted:
        groups.setdefault(_result(row), []).append(row)
    named = dict(zip(images, _with_own_ids(list(images.values())), strict=True))
    naming = Naming(named.values())
    order = sorted(images.items(), key=lambda one: (one[1]["mask_array"] or "", one[1]["path"]))
    with Reader(limits_of(*images.values()), isolated=True) as reader:
        for key, image in order:
            if image["status"] != "ok":
                written.left_out[image["path"]] = f"it failed: {image['reason']}"
                continue
            try:
                with open_source(image, reader) as source:
                    written.images += 1
                    write(image, source, partial(naming.path_of, named[key]), groups[key])
            except InputError as error:
                written.left_out[image["path"]] = error.detail


def _with_own_ids(images: Sequence[Row]) -> Iterator[Row]:
    """Rows to be named by: of an image with several results each has an id of its own."""
    results = Counter(image["image_id"] for image in images)
    for image in images:
        own = ".".join(image[name] for name in ("image_id", "run_id", "chunk_id"))
        yield image if results[image["image_id"]] == 1 else {**image, "image_id": own}


def _result(row: Row) -> str:
    """Which result of an image a row of an answer means."""
    return "|".join(str(row.get(name) or "") for name in ("image_id", "run_id", "chunk_id"))


def _images(snapshot: Snapshot, wanted: Sequence[Row]) -> Iterator[tuple[str, Row]]:
    """The rows of `images` that an answer is about.

    Raises:
        SpecError: there is no such result.
    """
    ids = pa.array({row["image_id"] for row in wanted}, pa.string())
    found: dict[str, list[Row]] = {}
    for row in snapshot.read("images", where=ds.field("image_id").isin(ids)).to_pylist():
        found.setdefault(row["image_id"], []).append(row)
    for key, row in {_result(row): row for row in wanted}.items():
        named = [(name, row[name]) for name in ("run_id", "chunk_id") if row.get(name)]
        results = [
            one for one in found.get(row["image_id"], ()) if all(one[k] == v for k, v in named)
        ]
        if not results:
            raise SpecError(f"the answer names a result that is not in this store: {row}")
        yield key, max(results, key=lambda one: (one["run_id"], one["chunk_id"]))


def crop_box(image: Row, one: Row, margin: int) -> Box:
    """Where an object is in its image, and `margin` pixels around it, as far as there are any.

    Args:
        image: row of `images`.
        one: row of `objects`.
    """
    return object_box(one).grow(margin).clip((image["height"], image["width"]))


def cut_out(pixels: Pixels, mask: npt.NDArray[np.bool_]) -> Pixels:
    """(h, w, C) without what is not in a mask (h, w).

    Returns:
        Of bytes (h, w, C + 1), where the last channel is 0 outside of the mask, since PNG can say
        that; of others (h, w, C), where all is.
    """
    if pixels.dtype == np.uint8:
        return np.dstack([pixels, np.where(mask, 255, 0).astype(np.uint8)])
    return np.where(mask[..., None], pixels, np.zeros((), pixels.dtype))


def _write_index(out: Path, rows: Sequence[Row]) -> None:
    def write(file: BinaryIO) -> None:
        text = io.TextIOWrapper(file, "utf-8", newline="")
        format_table(pa.Table.from_pylist(list(rows)), "csv", text)
        text.detach()

    if rows:
        write_below(out, PurePosixPath(INDEX), write)
