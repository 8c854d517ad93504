"""Label images, and class images, as files: PNG, which every image program opens."""

from __future__ import annotations

from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import tifffile
from PIL import Image

from segpipe.export.files import ExportSummary, write_below
from segpipe.export.naming import CLASSES, Naming
from segpipe.export.objects import count_failed, each_image, ok_images
from segpipe.export.pixels import encode_pixels
from segpipe.progress import Observer
from segpipe.store.snapshot import Snapshot

MAX_PNG_LABEL = 0xFFFF


def export_labels(snapshot: Snapshot, out: Path, observe: Observer | None = None) -> ExportSummary:
    """Write the newest label image of every `ok` image: `a/b/c.tif` becomes `OUT/a/b/c.png`.

    A label image with labels above 65,535 becomes a 32-bit TIFF, `OUT/a/b/c.tif`. Of a semantic
    model there is the class image too, 8 bit, 0 is background: `OUT/a/b/c.classes.png`. `Naming`
    says what happens to images that differ in their suffix only. Existing files are replaced.

    Raises:
        SpecError: a file cannot be written, or a link below `out` leads out of it.
    """
    naming = Naming(ok_images(snapshot), second=CLASSES)
    images = objects = renamed = wide = 0
    for row in each_image(snapshot, observe):
        labels = snapshot.label_image(row)
        is_wide = int(labels.max(initial=0)) > MAX_PNG_LABEL
        relative = naming.path_of(row, ".tif" if is_wide else ".png")
        write_below(out, relative, partial(_encode_tiff if is_wide else _encode_png, labels))
        classes = snapshot.semantic(row)
        if classes is not None:
            path = naming.path_of(row, f"{CLASSES}.png")
            write_below(out, path, partial(encode_pixels, classes[..., None]))
        images += 1
        objects += row["n_objects"]
        wide += is_wide
        renamed += relative.stem != PurePosixPath(row["path"]).stem
    return ExportSummary(str(out), images, objects, count_failed(snapshot), renamed, wide)


def _encode_png(labels: npt.NDArray[np.unsignedinteger[Any]], file: BinaryIO) -> None:
    Image.fromarray(labels.astype(np.uint16)).save(file, format="PNG")


def _encode_tiff(labels: npt.NDArray[np.unsignedinteger[Any]], file: BinaryIO) -> None:
    tifffile.imwrite(file, labels.astype(np.uint32), compression="zlib")
