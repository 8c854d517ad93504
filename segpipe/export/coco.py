"""COCO instances (Lin et al., ECCV 2014): one JSON file with masks as run-length codes."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from segpipe.export.categories import Categories
from segpipe.export.files import ExportSummary, write_below
from segpipe.export.images import ImageCopies
from segpipe.export.naming import Naming
from segpipe.export.objects import count_failed, each_image, objects_with_masks, ok_images
from segpipe.masks.rle import encode
from segpipe.progress import Observer
from segpipe.store.snapshot import Snapshot

FILE_NAME = "instances.json"

_RESULT = ("image_id", "category_id", "segmentation", "bbox", "score")
"""What a result has, and no more: `loadRes` numbers them and measures their areas."""

Json = dict[str, Any]


def export_coco(snapshot: Snapshot, out: Path, observe: Observer | None = None) -> ExportSummary:
    """Write the newest objects of every `ok` image to `OUT/instances.json`.

    `file_name` is the image's path in the collection. An annotation holds the full mask, hidden
    parts included, `bbox` as x, y, width, height, `area` in pixels, and `score` where there is
    one. A category's id is the class id, except where another model of the store uses the same
    id for another name: then it is a free one.

    The file grows on disk while the store is read, so memory holds one image's objects at a time.

    Raises:
        SpecError: the file cannot be written.
    """
    return _export(snapshot, out, FILE_NAME, lambda row: str(row["path"]), observe)


def export_fiftyone(
    snapshot: Snapshot, out: Path, with_images: bool = False, observe: Observer | None = None
) -> ExportSummary:
    """Write a `fiftyone.types.COCODetectionDataset`: `OUT/labels.json`, if wanted `OUT/data/`.

    As `export_coco`; `file_name` is a path below `data/`.

    Raises:
        SpecError: a file cannot be written.
    """
    naming = Naming(ok_images(snapshot))
    copies = ImageCopies(snapshot, out, with_images)

    def place(row: Json) -> str:
        data = PurePosixPath("data")
        return str(copies.write(row, data / naming.path_of(row, "")).relative_to(data))

    summary = _export(snapshot, out, "labels.json", place, observe)
    return replace(summary, out=str(out), absent=copies.absent)


def export_coco_results(
    snapshot: Snapshot, out: Path, observe: Observer | None = None
) -> ExportSummary:
    """Write COCO results, as `pycocotools` takes them in `COCO.loadRes`: `OUT/results.json`.

    `image_id` and `category_id` are those of `export_coco` for the same images: `OUT/images.json`
    holds these without annotations. An object without a score, such as of a method that gives
    none, has score 1.

    Raises:
        SpecError: a file cannot be written.
    """
    walk = _Walk(snapshot, lambda row: str(row["path"]), observe)
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=out) as results:
        write_below(out, PurePosixPath("images.json"), partial(walk.write, results, True))
        results.seek(0)

        def write_results(file: BinaryIO) -> None:
            file.write(b"[")
            shutil.copyfileobj(results, file)
            file.write(b"]\n")

        write_below(out, PurePosixPath("results.json"), write_results)
    return walk.summary(out / "results.json")


def _export(
    snapshot: Snapshot,
    out: Path,
    name: str,
    place: Callable[[Json], str],
    observe: Observer | None,
) -> ExportSummary:
    walk = _Walk(snapshot, place, observe)

    def write(file: BinaryIO) -> None:
        with tempfile.TemporaryFile(dir=out) as annotations:
            walk.write(annotations, False, file)

    write_below(out, PurePosixPath(name), write)
    return walk.summary(out / name)


class _Walk:
    """One walk over a store, which writes images and annotations, and counts them."""

    def __init__(
        self, snapshot: Snapshot, place: Callable[[Json], str], observe: Observer | None
    ) -> None:
        """`place` is the `file_name` of an image."""
        self._snapshot, self._place, self._observe = snapshot, place, observe
        self._categories = Categories()
        self._images = self._objects = 0

    def summary(self, path: Path) -> ExportSummary:
        failed = count_failed(self._snapshot)
        return ExportSummary(str(path), self._images, self._objects, failed)

    def write(self, annotations: BinaryIO, as_results: bool, file: BinaryIO) -> None:
        """Images go to `file` and annotations to a file of their own, whose text it gets then."""
        file.write(b'{"info": {"description": "made by segpipe"},\n"images": [')
        for row in each_image(self._snapshot, self._observe):
            image = _image(row, self._images + 1, self._place(row))
            _append(file, image, first=self._images == 0)
            self._images += 1
            for found in _annotations(self._snapshot, row, self._categories):
                annotation = found | {"id": self._objects + 1, "image_id": self._images}
                if as_results:
                    annotation = {"score": 1.0} | {
                        key: annotation[key] for key in _RESULT if key in annotation
                    }
                _append(annotations, annotation, first=self._objects == 0)
                self._objects += 1
        file.write(b'],\n"annotations": [')
        if not as_results:
            annotations.seek(0)
            shutil.copyfileobj(annotations, file)
        categories = json.dumps(self._categories.to_list()).encode()
        file.write(b'],\n"categories": ' + categories + b"}\n")


def _append(file: BinaryIO, value: Json, first: bool) -> None:
    file.write((b"\n" if first else b",\n") + json.dumps(value, allow_nan=False).encode())


def _image(row: Json, number: int, place: str) -> Json:
    return {
        "id": number,
        "file_name": place,
        "height": row["height"],
        "width": row["width"],
        "segpipe_image_id": row["image_id"],
    }


def _annotations(snapshot: Snapshot, row: Json, categories: Categories) -> Iterator[Json]:
    """The annotations of one image, without their ids."""
    shape = row["height"], row["width"]
    for found, mask in objects_with_masks(snapshot, row):
        height, width = mask.mask.shape
        annotation = {
            "category_id": categories.id_of(found["class_id"], found["class_name"]),
            "segmentation": {"size": list(shape), "counts": found["rle"] or encode(mask, shape)},
            "bbox": [mask.x0, mask.y0, width, height],
            "area": found["area"],
            "iscrowd": 0,
        }
        if found["score"] is not None:
            annotation["score"] = found["score"]
        yield annotation
