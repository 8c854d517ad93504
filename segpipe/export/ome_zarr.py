"""OME-Zarr 0.5: each image with its label images, as napari, Fiji and others open it."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from segpipe.errors import InputError
from segpipe.export.files import ExportSummary, write_folder_below
from segpipe.export.naming import Naming
from segpipe.export.objects import count_failed, each_image, ok_images
from segpipe.progress import Observer
from segpipe.report.display import class_colours
from segpipe.report.drawn_objects import DrawnObjects
from segpipe.report.source import read_source
from segpipe.store.ome_zarr import LabelImage, write_ome_zarr
from segpipe.store.snapshot import Row, Snapshot

_PROPERTIES = [
    *("class_name", "score", "area", "centroid_y", "centroid_x", "perimeter"),
    *("eccentricity", "solidity", "orientation", "touches_border"),
]


def export_ome_zarr(
    snapshot: Snapshot, out: Path, observe: Observer | None = None
) -> ExportSummary:
    """Write the newest result of every `ok` image: `a/b/c.tif` becomes `OUT/a/b/c.ome.zarr`.

    It holds the pixels that were segmented, `labels/objects`, with a colour per object, different
    from those of its neighbours, and its measures as properties; and of a semantic model
    `labels/classes`. Where objects overlap, the best score shows. An image whose pixels are gone
    or have changed is left out, and named in the summary.

    Raises:
        SpecError: a folder cannot be written.
    """
    naming = Naming(ok_images(snapshot))
    images = objects = 0
    absent: dict[str, str] = {}
    for row in each_image(snapshot, observe):
        try:
            pixels = read_source(row).pixels
        except InputError as error:
            absent[row["path"]] = error.detail
            continue
        labels = {"objects": _objects(snapshot, row)}
        classes = _classes(snapshot, row)
        if classes is not None:
            labels["classes"] = classes
        path = naming.path_of(row, ".ome.zarr")
        write = partial(write_ome_zarr, name=path.name, pixels=pixels, label_images=labels)
        write_folder_below(out, path, write)
        images += 1
        objects += row["n_objects"]
    return ExportSummary(str(out), images, objects, count_failed(snapshot), absent=absent)


def _objects(snapshot: Snapshot, image: Row) -> LabelImage:
    rows = snapshot.objects_of(image)
    colours = DrawnObjects.of(rows).colours().tolist()
    return LabelImage(
        snapshot.label_image(image),
        {row["label"]: _rgb(colours[row["label"]]) for row in rows},
        [_properties(row) for row in rows],
    )


def _classes(snapshot: Snapshot, image: Row) -> LabelImage | None:
    semantic = snapshot.semantic(image)
    if semantic is None:
        return None
    names = {row["class_id"]: row["class_name"] for row in snapshot.objects_of(image)}
    colours = class_colours(int(semantic.max(initial=0)) + 1).tolist()
    return LabelImage(
        semantic,
        {class_id: _rgb(colour) for class_id, colour in enumerate(colours) if class_id},
        [{"label-value": number, "class_name": name} for number, name in sorted(names.items())],
    )


def _properties(row: Row) -> dict[str, Any]:
    known = {name: row[name] for name in _PROPERTIES if row[name] is not None}
    return {"label-value": row["label"], **known}


def _rgb(colour: list[int]) -> tuple[int, int, int]:
    red, green, blue = colour
    return red, green, blue
