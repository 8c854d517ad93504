"""The first page: all images, filtered, sorted, and how their numbers spread."""

# No `from __future__ import annotations`: FastAPI could not read those that name `chosen`.

import shlex
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from starlette.responses import Response

from segpipe.provenance.redact import redact_url
from segpipe.query.condition import Level, check_condition
from segpipe.viewer.answers import SORTS
from segpipe.viewer.filters import MEASURES, Filter, Range, as_query
from segpipe.viewer.pages import page
from segpipe.viewer.viewer import Viewer

MAX_PAGE = 500
Text = Annotated[str, Query(max_length=4000)]
Texts = Annotated[list[str], Query(max_length=100)]
_NONE: list[str] = []


def routes(viewer: Viewer) -> APIRouter:
    """`/` and what it asks for."""
    router = APIRouter()

    def chosen(
        run: Text = "",
        model: Text = "",
        name: Text = "",
        outcome: Texts = _NONE,
        cls: Texts = _NONE,
        range_: Annotated[list[str], Query(alias="range", max_length=100)] = _NONE,
        where: Annotated[str, Query()] = "",
    ) -> Filter:
        ranges = tuple(Range.parse(text) for text in range_)
        where = where.strip()
        level: Level = _level(viewer, where) if where else "images"
        return Filter(run, model, name, tuple(outcome), tuple(cls), ranges, where, level)

    @router.get("/")
    def show() -> Response:
        return page("Images - segpipe", "grid.html", "grid.js", viewer.name, here="/")

    @router.get("/api/store")
    def store() -> dict[str, Any]:
        viewer.snapshot()
        return {"version": viewer.index.version, "trouble": viewer.trouble, **_choices(viewer)}

    @router.get("/api/version")
    def version() -> dict[str, Any]:
        viewer.look()
        return {"version": viewer.index.version, "trouble": viewer.trouble}

    def images(
        chosen: Annotated[Filter, Depends(chosen)],
        sort: Text = "path",
        descending: bool = False,
        offset: Annotated[int, Query(ge=0)] = 0,
        limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = 100,
    ) -> dict[str, Any]:
        viewer.snapshot()
        version = viewer.index.version
        order = viewer.answers.order(chosen, sort, descending)
        return {
            "version": version,
            "total": len(order.results),
            "objects": order.objects,
            "about": "objects" if chosen.object_conditions() else "images",
            "rows": viewer.answers.rows(order, offset, limit),
        }

    def histogram(column: Text, chosen: Annotated[Filter, Depends(chosen)]) -> dict[str, Any]:
        return viewer.answers.histogram(column, chosen)

    def sql(chosen: Annotated[Filter, Depends(chosen)]) -> dict[str, str]:
        address = redact_url(viewer.name)
        texts = {"images": as_query(chosen, "images"), "objects": as_query(chosen, "objects")}
        command = shlex.join(["segpipe", "query", address, texts["images"], "--format", "csv"])
        return {**texts, "command": command}

    router.add_api_route("/api/images", images)
    router.add_api_route("/api/histogram", histogram)
    router.add_api_route("/api/sql", sql)

    @router.get("/api/thumbnail")
    def thumbnail(image_id: Text, run: Text = "", plain: bool = False) -> Response:
        row = viewer.find(image_id, run or None)
        picture = viewer.thumbnails.draw(viewer.snapshot(), row, plain)
        # For a while, and in no shared cache: an image that changes says so when it is drawn anew.
        headers = {"Cache-Control": "private, max-age=600"}
        return Response(picture, media_type="image/webp", headers=headers)

    return router


def _level(viewer: Viewer, where: str) -> Level:
    with viewer.index.cursor() as cursor:
        return check_condition(cursor, where)


def _choices(viewer: Viewer) -> dict[str, Any]:
    """What filters may be set to, and how many images each has."""
    ask = viewer.index.ask
    runs = ask(
        "SELECT run_id, any_value(model), count(*), coalesce(sum(n_objects), 0)::BIGINT "
        "FROM image_rows GROUP BY run_id ORDER BY run_id DESC"
    )
    outcomes = ask(
        "SELECT coalesce(reason, status) AS o, count(*) FROM image_rows GROUP BY o ORDER BY o"
    )
    classes = ask("SELECT class_name, count(*) FROM object_rows GROUP BY 1 ORDER BY 2 DESC, 1")
    keys = ("run", "model", "images", "objects")
    return {
        "store": redact_url(viewer.name),
        "runs": [dict(zip(keys, row, strict=True)) for row in runs],
        "models": sorted({row[1] for row in runs}),
        "outcomes": [{"name": name, "images": n} for name, n in outcomes],
        "classes": [{"name": name, "objects": n} for name, n in classes],
        "sorts": list(SORTS),
        "columns": [
            {"name": m.name, "level": m.level, "unit": m.unit, "meaning": m.meaning}
            for m in MEASURES.values()
        ],
    }
