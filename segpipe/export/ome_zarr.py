"""OME-Zarr 0.5: each image with its label images, as napari, Fiji and others open it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from segpipe.errors import InputError
from segpipe.export.files import ExportSummary, write_folder_below
from segpipe.export.naming import Naming
from segpipe.export.objects import count_failed, each_image, ok_images
from segpipe.progress import Observer
from segpipe.report.display import class_colours
from segpipe.report.drawn_objects import DrawnObjects
from segpipe.report.source import Source, open_source
from segpipe.store.large_ome_zarr import LargeLabels, LargePixels, write_large_ome_zarr
from segpipe.store.ome_zarr import LabelImage, write_ome_zarr
from segpipe.store.snapshot import Row, Snapshot, is_large

_PROPERTIES = [
    *("class_name", "score", "area", "centroid_y", "centroid_x", "perimeter"),
    *("eccentricity", "solidity", "orientation", "touches_border"),
]


MOST_DESCRIBED = 50_000
"""Objects of a large image that have colours and properties, which are one JSON text."""

Labels = npt.NDArray[np.unsignedinteger[Any]]


def export_ome_zarr(
    snapshot: Snapshot, out: Path, observe: Observer | None = None
) -> ExportSummary:
    """Write the newest result of every `ok` image: `a/b/c.tif` becomes `OUT/a/b/c.ome.zarr`.

    It holds the pixels that were segmented, `labels/objects`, with a colour per object, different
    from those of its neighbours, and its measures as properties; and of a semantic model
    `labels/classes`. Where objects overlap, the best score shows. An image whose pixels are gone
    or have changed is left out, and named in the summary; so are large images with more than
    `MOST_DESCRIBED` objects, which have neither colours nor properties.

    Raises:
        SpecError: a folder cannot be written.
    """
    naming = Naming(ok_images(snapshot))
    images = objects = 0
    absent: dict[str, str] = {}
    unlisted: dict[str, str] = {}
    for row in each_image(snapshot, observe):
        path = naming.path_of(row, ".ome.zarr")
        try:
            with open_source(row) as source:
                write = _writer(snapshot, row, source, path.name)
                write_folder_below(out, path, write)
        except InputError as error:
            absent[row["path"]] = error.detail
            continue
        if not _described(row):
            unlisted[row["path"]] = (
                f"its {row['n_objects']:,} objects have no colours and properties in it (up to "
                f"{MOST_DESCRIBED:,} have); the format parquet has what was measured"
            )
        images += 1
        objects += row["n_objects"]
    failed = count_failed(snapshot)
    return ExportSummary(str(out), images, objects, failed, unlisted=unlisted, absent=absent)


def _writer(snapshot: Snapshot, row: Row, source: Source, name: str) -> Callable[[Path], None]:
    if is_large(row):
        pixels = LargePixels(source.shape, row["channels"], row["dtype"], source.read)
        large = _large_labels(snapshot, row)
        return partial(write_large_ome_zarr, name=name, pixels=pixels, label_images=large)
    labels = {"objects": _objects(snapshot, row, snapshot.label_image(row))}
    semantic = snapshot.semantic(row)
    if semantic is not None:
        highest = int(semantic.max(initial=0))
        labels["classes"] = _classes(snapshot, row, semantic, highest)
    own = source.read(source.whole)
    return partial(write_ome_zarr, name=name, pixels=own, label_images=labels)


def _large_labels(snapshot: Snapshot, row: Row) -> dict[str, LargeLabels]:
    nothing = np.zeros((1, 1), np.uint8)
    about = _objects(snapshot, row, nothing) if _described(row) else LabelImage(nothing, {})
    labels = {"objects": LargeLabels("uint32", partial(snapshot.label_image, row), about)}
    if row["semantic_array"]:
        highest = max(_class_names(snapshot, row), default=0)
        read = cast("Any", partial(snapshot.semantic, row))
        about = _classes(snapshot, row, nothing, highest)
        labels["classes"] = LargeLabels("uint8", read, about)
    return labels


def _described(row: Row) -> bool:
    return not is_large(row) or row["n_objects"] <= MOST_DESCRIBED


def _objects(snapshot: Snapshot, image: Row, labels: Labels) -> LabelImage:
    rows = snapshot.objects_of(image)
    colours = DrawnObjects.of(rows).colours().tolist()
    return LabelImage(
        labels,
        {row["label"]: _rgb(colours[row["label"]]) for row in rows},
        [_properties(row) for row in rows],
    )


def _classes(snapshot: Snapshot, image: Row, semantic: Labels, highest: int) -> LabelImage:
    colours = class_colours(highest + 1).tolist()
    return LabelImage(
        semantic,
        {class_id: _rgb(colour) for class_id, colour in enumerate(colours) if class_id},
        [
            {"label-value": number, "class_name": name}
            for number, name in sorted(_class_names(snapshot, image).items())
        ],
    )


def _class_names(snapshot: Snapshot, image: Row) -> dict[int, str]:
    return DrawnObjects.of(snapshot.object_table(image)).class_names()


def _properties(row: Row) -> dict[str, Any]:
    known = {name: row[name] for name in _PROPERTIES if row[name] is not None}
    return {"label-value": row["label"], **known}


def _rgb(colour: list[int]) -> tuple[int, int, int]:
    red, green, blue = colour
    return red, green, blue
