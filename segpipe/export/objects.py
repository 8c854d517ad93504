"""The images of an export one after the other, with their objects and the masks of these."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import BinaryIO

from segpipe.export.files import ExportSummary, write_below
from segpipe.export.naming import Naming
from segpipe.progress import Observer, watched
from segpipe.records import CroppedMask
from segpipe.store.object_masks import masks_of
from segpipe.store.snapshot import Row, Snapshot


def ok_images(snapshot: Snapshot) -> Iterator[Row]:
    """The newest result of each image that has one, by path."""
    return (row for row in snapshot.image_rows() if row["status"] == "ok")


def each_image(snapshot: Snapshot, observe: Observer | None) -> Iterator[Row]:
    """As `ok_images`; `observe` hears after each of them where the export stands."""
    total = sum(1 for _ in ok_images(snapshot)) if observe else 0
    return watched(ok_images(snapshot), total, observe)


def count_failed(snapshot: Snapshot) -> int:
    """Images without a result, which are in no export."""
    return sum(row["status"] != "ok" for row in snapshot.image_rows())


def write_each_image(
    snapshot: Snapshot,
    out: Path,
    suffix: str,
    write: Callable[[Row, BinaryIO], None],
    observe: Observer | None,
) -> ExportSummary:
    """A file for each `ok` image: `a/b/c.tif` becomes `OUT/a/b/c` and the suffix.

    Args:
        write: writes what is to stand in the file of an image.
        observe: hears after each image where the export stands.

    Raises:
        SpecError: a file cannot be written, or a link below `out` leads out of it.
    """
    naming = Naming(ok_images(snapshot))
    images = objects = 0
    for row in each_image(snapshot, observe):
        write_below(out, naming.path_of(row, suffix), partial(write, row))
        images += 1
        objects += row["n_objects"]
    return ExportSummary(str(out), images, objects, count_failed(snapshot))


def objects_with_masks(snapshot: Snapshot, image: Row) -> Iterator[tuple[Row, CroppedMask]]:
    """The rows of an image's objects with their whole masks, parts that others hide included."""
    return masks_of(snapshot, image, snapshot.each_object(image))
