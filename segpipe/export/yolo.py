"""The folders and text files that Ultralytics' YOLO segmentation models are trained on."""

from __future__ import annotations

from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

import yaml

from segpipe.export.categories import Categories
from segpipe.export.files import ExportSummary, write_below
from segpipe.export.images import ImageCopies
from segpipe.export.naming import Naming
from segpipe.export.objects import count_failed, each_image, objects_with_masks, ok_images
from segpipe.masks.outline import outline, single_ring
from segpipe.progress import Observer
from segpipe.store.snapshot import Row, Snapshot


def export_yolo(
    snapshot: Snapshot, out: Path, with_images: bool = False, observe: Observer | None = None
) -> ExportSummary:
    """Write `OUT/labels/<image>.txt`, `OUT/data.yaml`, and if wanted `OUT/images/<image>.png`.

    A line holds a class index from 0 and the corners of one polygon, as shares of width and
    height; objects with holes or several parts are one polygon too, whose rings are joined by
    bridges of no width. Scores are not in it.

    Raises:
        SpecError: a file cannot be written.
    """
    naming = Naming(ok_images(snapshot))
    copies = ImageCopies(snapshot, out, with_images)
    categories = Categories(first=0)
    images = objects = 0
    for row in each_image(snapshot, observe):
        stem = naming.path_of(row, "")
        text = PurePosixPath("labels") / stem.with_name(f"{stem.name}.txt")
        write_below(out, text, partial(_write_labels, snapshot, row, categories))
        copies.write(row, PurePosixPath("images") / stem)
        images += 1
        objects += row["n_objects"]
    names = {one["id"]: one["name"] for one in categories.to_list()}
    # Without `path`, they lie beside this file; a relative one is looked for where a program runs.
    about: dict[str, Any] = {"train": "images", "val": "images", "names": names}
    data = yaml.safe_dump(about, sort_keys=False, allow_unicode=True).encode()
    write_below(out, PurePosixPath("data.yaml"), partial(_write, data))
    return ExportSummary(str(out), images, objects, count_failed(snapshot), absent=copies.absent)


def _write_labels(snapshot: Snapshot, image: Row, categories: Categories, file: BinaryIO) -> None:
    size = image["width"], image["height"]
    for row, mask in objects_with_masks(snapshot, image):
        corners = (single_ring(outline(mask)) / size).ravel()
        numbers = " ".join(f"{share:.8g}" for share in corners.tolist())
        category = categories.id_of(row["class_id"], row["class_name"])
        file.write(f"{category} {numbers}\n".encode())


def _write(data: bytes, file: BinaryIO) -> None:
    file.write(data)
