"""Label images, and class images, as files: PNG, which every image program opens."""

from __future__ import annotations

from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, cast

import numpy as np
import numpy.typing as npt
import tifffile
from PIL import Image

from segpipe.export.files import ExportSummary, write_below
from segpipe.export.naming import CLASSES, Naming
from segpipe.export.objects import count_failed, each_image, ok_images
from segpipe.export.pixels import encode_pixels
from segpipe.export.tiled_tiff import Read, write_tiled
from segpipe.progress import Observer
from segpipe.store.snapshot import Row, Snapshot, is_large

MAX_PNG_LABEL = 0xFFFF


def export_labels(snapshot: Snapshot, out: Path, observe: Observer | None = None) -> ExportSummary:
    """Write the newest label image of every `ok` image: `a/b/c.tif` becomes `OUT/a/b/c.png`.

    A label image with labels above 65,535 becomes a 32-bit TIFF, `OUT/a/b/c.tif`, and that of a
    large image too, in tiles. Of a semantic model there is the class image too, 8 bit, 0 is
    background: `OUT/a/b/c.classes.png`, or `.tif` of a large image. `Naming` says what happens to
    images that differ in their suffix only. Existing files are replaced.

    Raises:
        SpecError: a file cannot be written, or a link below `out` leads out of it.
    """
    naming = Naming(ok_images(snapshot), second=CLASSES)
    images = objects = renamed = wide = large = 0
    for row in each_image(snapshot, observe):
        if is_large(row):
            relative = _write_large(snapshot, row, out, naming)
            large += 1
        else:
            relative = _write_small(snapshot, row, out, naming)
            wide += relative.suffix == ".tif"
        images += 1
        objects += row["n_objects"]
        renamed += relative.stem != PurePosixPath(row["path"]).stem
    failed = count_failed(snapshot)
    return ExportSummary(str(out), images, objects, failed, renamed, wide, large=large)


def _write_small(snapshot: Snapshot, row: Row, out: Path, naming: Naming) -> PurePosixPath:
    labels = snapshot.label_image(row)
    is_wide = int(labels.max(initial=0)) > MAX_PNG_LABEL
    relative = naming.path_of(row, ".tif" if is_wide else ".png")
    write_below(out, relative, partial(_encode_tiff if is_wide else _encode_png, labels))
    classes = snapshot.semantic(row)
    if classes is not None:
        path = naming.path_of(row, f"{CLASSES}.png")
        write_below(out, path, partial(encode_pixels, classes[..., None]))
    return relative


def _write_large(snapshot: Snapshot, row: Row, out: Path, naming: Naming) -> PurePosixPath:
    shape = row["height"], row["width"]
    relative = naming.path_of(row, ".tif")
    place = snapshot.georeference(row)
    for path, dtype, mask in (
        (relative, np.uint32, snapshot.label_image),
        (naming.path_of(row, f"{CLASSES}.tif"), np.uint8, snapshot.semantic),
    ):
        if dtype is np.uint32 or row["semantic_array"]:
            write = partial(
                write_tiled,
                shape=shape,
                dtype=dtype,
                read=cast("Read", partial(mask, row)),
                compression="zlib",
                georeference=place,
            )
            write_below(out, path, write)
    return relative


def _encode_png(labels: npt.NDArray[np.unsignedinteger[Any]], file: BinaryIO) -> None:
    Image.fromarray(labels.astype(np.uint16)).save(file, format="PNG")


def _encode_tiff(labels: npt.NDArray[np.unsignedinteger[Any]], file: BinaryIO) -> None:
    tifffile.imwrite(file, labels.astype(np.uint32), compression="zlib")
