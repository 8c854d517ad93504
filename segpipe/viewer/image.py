"""The page of one image: its tiles, its objects, and what one object is like."""

from __future__ import annotations

import math
import threading
from typing import Annotated, Any

from fastapi import APIRouter, Query
from starlette.responses import JSONResponse, Response

from segpipe.errors import SpecError
from segpipe.export.crops import crop_box, cut_out
from segpipe.geometry import Box
from segpipe.masks.of_object import mask_in
from segpipe.report.display import class_colours
from segpipe.report.drawn_objects import DrawnObjects
from segpipe.schema import OBJECTS
from segpipe.store.object_masks import find_object, mask_of
from segpipe.store.snapshot import Row
from segpipe.viewer.neighbours import Features
from segpipe.viewer.pages import page
from segpipe.viewer.pyramid import TILE, levels
from segpipe.viewer.tiles import Kind, Tiles, encode
from segpipe.viewer.viewer import Viewer

_SHOWN = (
    *("image_id", "path", "run_id", "model", "status", "reason", "detail", "height", "width"),
    *("n_objects", "saturated", "format", "dtype", "channels", "size_bytes", "sha256"),
)
"""Columns of `images` that the page is told."""

NEIGHBOURS = 8
CROP_MARGIN = 8

MOST_OBJECTS = 20_000
"""Of an image, that the page is told before it asks for one; tiles show all."""

Run = Annotated[str | None, Query()]

_FOREVER = {"Cache-Control": "private, max-age=3600"}
"""What a run found in an image never changes."""


def routes(viewer: Viewer) -> APIRouter:
    """`/image/...`."""
    router = APIRouter()
    tiles = Tiles()
    features = _KeptFeatures(viewer)
    viewer.at_the_end(tiles.close)

    @router.get("/image/{image_id}")
    def show(image_id: str) -> Response:
        del image_id
        return page("Image - segpipe", "image.html", "image.js", viewer.name)

    @router.get("/api/image/{image_id}")
    def about(image_id: str, run: Run = None) -> Response:
        row = viewer.find(image_id, run)
        return JSONResponse(_about(viewer, tiles, row))

    @router.get("/api/image/{image_id}/tile/{kind}/{level}/{y}/{x}")
    def tile(image_id: str, kind: Kind, level: int, y: int, x: int, run: Run = None) -> Response:
        row = viewer.find(image_id, run)
        if level < 0 or level >= levels(row["height"] or 0, row["width"] or 0):
            raise SpecError(f"no level {level}")
        drawn = tiles.draw(viewer.snapshot(), row, kind, level, y, x)
        return Response(drawn, media_type="image/png", headers=_FOREVER)

    @router.get("/api/image/{image_id}/at/{y}/{x}")
    def at(image_id: str, y: int, x: int, run: Run = None) -> Response:
        row = viewer.find(image_id, run)
        inside = 0 <= y < (row["height"] or 0) and 0 <= x < (row["width"] or 0)
        if not inside:
            return JSONResponse({"label": 0})
        found = tiles.labels(viewer.snapshot(), row).part(Box(y, x, y + 1, x + 1))
        return JSONResponse({"label": int(found[0, 0])})

    @router.get("/api/image/{image_id}/object/{label}")
    def one_object(image_id: str, label: int, run: Run = None) -> Response:
        row = viewer.find(image_id, run)
        one = _object(viewer, row, label)
        known = features.of_run(row["run_id"])
        near = [
            {"image_id": other.image_id, "label": other.label, "distance": other.distance}
            for other in known.nearest(one, NEIGHBOURS)
        ]
        measured = [
            {"name": c.name, "unit": c.unit, "meaning": c.meaning, "value": _plain(one[c.name])}
            for c in OBJECTS
        ]
        return JSONResponse({"columns": measured, "neighbours": near, "sampled": known.sampled})

    @router.get("/api/image/{image_id}/crop/{label}")
    def crop(image_id: str, label: int, masked: bool = False, run: Run = None) -> Response:
        row = viewer.find(image_id, run)
        one = _object(viewer, row, label)
        box = crop_box(row, one, CROP_MARGIN)
        plain = tiles.pixels(row).part(box)
        cut = cut_out(plain, mask_in(mask_of(viewer.snapshot(), row, one), box))
        return Response(encode(cut if masked else plain), media_type="image/png", headers=_FOREVER)

    return router


class _KeptFeatures:
    """Those of the run that was asked for last."""

    def __init__(self, viewer: Viewer) -> None:
        self._viewer = viewer
        self._lock = threading.Lock()
        self._kept: tuple[Any, Features] | None = None

    def of_run(self, run_id: str) -> Features:
        with self._lock:
            snapshot = self._viewer.snapshot()
            key = id(snapshot), run_id
            if self._kept is None or self._kept[0] != key:
                self._kept = key, Features(snapshot, run_id)
            return self._kept[1]


def _object(viewer: Viewer, image: Row, label: int) -> Row:
    one = find_object(viewer.snapshot(), image, label)
    if one is None:
        raise SpecError(f"{image['path']}: has no object {label}")
    return one


def _about(viewer: Viewer, tiles: Tiles, row: Row) -> dict[str, Any]:
    about: dict[str, Any] = {name: _plain(row[name]) for name in _SHOWN}
    about["tile"] = TILE
    if row["status"] != "ok":
        return {**about, "levels": 0, "objects": [], "classes": []}
    table = viewer.snapshot().object_table(row)
    objects = DrawnObjects.of(table)
    colours = tiles.colours(viewer.snapshot(), row)
    about["levels"] = levels(row["height"], row["width"])
    about["objects"] = [
        {
            "label": int(objects.labels[index]),
            "class_name": objects.name(index),
            "score": _plain(float(objects.scores[index])),
            "area": area,
            "box": objects.boxes[index].tolist(),
            "colour": colours[objects.labels[index]].tolist(),
        }
        for index, area in enumerate(table["area"].slice(0, MOST_OBJECTS).to_pylist())
    ]
    about["objects_left_out"] = len(objects) - len(about["objects"])
    classes = objects.class_names()
    palette = class_colours(max([0, *classes]) + 1).tolist()
    about["classes"] = (
        [{"name": name, "colour": palette[i]} for i, name in sorted(classes.items())]
        if row["semantic_array"]
        else []
    )
    about["others"] = viewer.results_of(row["image_id"])
    return about


def _plain(value: Any) -> Any:
    """For JSON, which knows no NaN."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, list):
        return [_plain(one) for one in value]
    return value
