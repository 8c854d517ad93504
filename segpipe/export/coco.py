"""COCO instances (Lin et al., ECCV 2014): one JSON file with masks as run-length codes."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from segpipe.export.files import ExportSummary, write_below
from segpipe.masks.rle import encode
from segpipe.records import CroppedMask
from segpipe.store.snapshot import Snapshot

FILE_NAME = "instances.json"

Json = dict[str, Any]


def export_coco(snapshot: Snapshot, out: Path) -> ExportSummary:
    """Write the newest objects of every `ok` image to `OUT/instances.json`.

    `file_name` is the image's path in the collection. An annotation holds the full mask, hidden
    parts included, `bbox` as x, y, width, height, `area` in pixels, and `score` where there is
    one. A category's id is the class id, except where another model of the store uses the same
    id for another name: then it is a free one.

    The file grows on disk while the store is read, so memory holds one image's objects at a time.

    Raises:
        SpecError: the file cannot be written.
    """
    counts = {"images": 0, "objects": 0, "failed": 0}

    def write(file: BinaryIO) -> None:
        with tempfile.TemporaryFile(dir=out) as annotations:
            _write(snapshot, file, annotations, counts)

    write_below(out, PurePosixPath(FILE_NAME), write)
    return ExportSummary(str(out / FILE_NAME), **counts)


def _write(
    snapshot: Snapshot, file: BinaryIO, annotations: BinaryIO, counts: dict[str, int]
) -> None:
    """Images go to `file` and annotations to a file of their own, in one walk over the store."""
    categories = _Categories()
    file.write(b'{"info": {"description": "made by segpipe"},\n"images": [')
    for row in snapshot.image_rows():
        if row["status"] != "ok":
            counts["failed"] += 1
            continue
        _append(file, _image(row, counts["images"] + 1), first=counts["images"] == 0)
        counts["images"] += 1
        for annotation in _annotations(snapshot, row, categories):
            annotation |= {"id": counts["objects"] + 1, "image_id": counts["images"]}
            _append(annotations, annotation, first=counts["objects"] == 0)
            counts["objects"] += 1
    file.write(b'],\n"annotations": [')
    annotations.seek(0)
    shutil.copyfileobj(annotations, file)
    file.write(b'],\n"categories": ' + json.dumps(categories.to_list()).encode() + b"}\n")


def _append(file: BinaryIO, value: Json, first: bool) -> None:
    file.write((b"\n" if first else b",\n") + json.dumps(value, allow_nan=False).encode())


def _image(row: Json, number: int) -> Json:
    return {
        "id": number,
        "file_name": row["path"],
        "height": row["height"],
        "width": row["width"],
        "segpipe_image_id": row["image_id"],
    }


def _annotations(snapshot: Snapshot, row: Json, categories: _Categories) -> Iterator[Json]:
    """The annotations of one image, without their ids."""
    shape = row["height"], row["width"]
    labels: npt.NDArray[np.unsignedinteger[Any]] | None = None
    for found in snapshot.objects_of(row):
        y0, x0, y1, x1 = (found[f"bbox_{end}"] for end in ("y0", "x0", "y1", "x1"))
        counts = found["rle"]
        if counts is None:
            if labels is None:
                labels = snapshot.label_image(row)
            mask = labels[y0:y1, x0:x1] == found["label"]
            counts = encode(CroppedMask(y0, x0, mask), shape)
        annotation = {
            "category_id": categories.id_of(found["class_id"], found["class_name"]),
            "segmentation": {"size": list(shape), "counts": counts},
            "bbox": [x0, y0, x1 - x0, y1 - y0],
            "area": found["area"],
            "iscrowd": 0,
        }
        if found["score"] is not None:
            annotation["score"] = found["score"]
        yield annotation


class _Categories:
    """An id per (class id, name); the class id itself where it is still free."""

    def __init__(self) -> None:
        self._ids: dict[tuple[int, str], int] = {}

    def id_of(self, class_id: int, name: str) -> int:
        if (class_id, name) not in self._ids:
            taken = set(self._ids.values())
            self._ids[class_id, name] = max(taken) + 1 if class_id in taken else class_id
        return self._ids[class_id, name]

    def to_list(self) -> list[Json]:
        return sorted(
            ({"id": number, "name": name} for (_, name), number in self._ids.items()),
            key=lambda category: int(category["id"]),
        )
