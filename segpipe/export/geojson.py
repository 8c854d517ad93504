"""GeoJSON (RFC 7946) as QuPath reads it: one file per image, a feature for each object.

Coordinates are pixels, x right and y down, of pixel corners: a one-pixel object is a unit square.
In QuPath: File, Import objects from file; or drop the file on the image.
"""

from __future__ import annotations

import json
import math
import uuid
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from segpipe.export.files import ExportSummary
from segpipe.export.objects import objects_with_masks, write_each_image
from segpipe.masks.outline import Polygon, Ring, outline
from segpipe.progress import Observer
from segpipe.report.display import class_colours
from segpipe.schema import OBJECTS
from segpipe.store.snapshot import Row, Snapshot

_NAMESPACE = uuid.UUID("6f0b2f6e-6d6c-5a55-9a52-7a1d6c1c3a10")
_NO_MEASUREMENT = {"label", "class_id"} | {f"bbox_{axis}{end}" for axis in "yx" for end in (0, 1)}

_MEASURED = tuple(
    column
    for column in OBJECTS
    if str(column.type) in ("float", "double", "int64") and column.name not in _NO_MEASUREMENT
)
"""Columns of `objects` with one number."""


def export_geojson(snapshot: Snapshot, out: Path, observe: Observer | None = None) -> ExportSummary:
    """Write the newest objects of every `ok` image: `a/b/c.tif` becomes `OUT/a/b/c.geojson`.

    An object is a detection with a Polygon, or a MultiPolygon where it has several parts; its
    measurements are named with their units, `area px`. Drawn back by pixel centres, it is its
    mask.

    Raises:
        SpecError: a file cannot be written.
    """
    return write_each_image(snapshot, out, ".geojson", partial(_write, snapshot), observe)


def _write(snapshot: Snapshot, image: Row, file: BinaryIO) -> None:
    file.write(b'{"type": "FeatureCollection", "features": [')
    file.writelines(
        (b",\n" if number else b"\n") + json.dumps(feature, allow_nan=False).encode()
        for number, feature in enumerate(_features(snapshot, image))
    )
    file.write(b"\n]}\n")


def _features(snapshot: Snapshot, image: Row) -> Iterator[dict[str, Any]]:
    for row, mask in objects_with_masks(snapshot, image):
        colour = class_colours(row["class_id"] + 1)[-1].tolist()
        yield {
            "type": "Feature",
            "id": str(uuid.uuid5(_NAMESPACE, f"{image['image_id']}:{row['label']}")),
            "geometry": geometry(outline(mask)),
            "properties": {
                "objectType": "detection",
                "name": str(row["label"]),
                "classification": {"name": row["class_name"], "color": colour},
                "measurements": dict(_measurements(row)),
            },
        }


def geometry(polygons: tuple[Polygon, ...]) -> dict[str, Any]:
    """A Polygon or a MultiPolygon; rings are closed by their first position."""
    coordinates = [[_closed(ring) for ring in (one.shell, *one.holes)] for one in polygons]
    if len(coordinates) == 1:
        return {"type": "Polygon", "coordinates": coordinates[0]}
    return {"type": "MultiPolygon", "coordinates": coordinates}


def _closed(ring: Ring) -> list[list[int]]:
    positions: list[list[int]] = ring.tolist()
    return [*positions, positions[0]]


def _measurements(row: Row) -> Iterator[tuple[str, float]]:
    for column in _MEASURED:
        value = row[column.name]
        if value is not None and math.isfinite(value):
            yield f"{column.name} {column.unit}".rstrip(), value
    for name in ("mean_intensity", "min_intensity", "max_intensity", "std_intensity"):
        for channel, value in enumerate(row[name] or ()):
            if value is not None and math.isfinite(value):
                yield f"{name} channel {channel}", value
