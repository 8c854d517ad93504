"""The first page: all images."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import Response

from segpipe.viewer.pages import page
from segpipe.viewer.viewer import Viewer


def routes(viewer: Viewer) -> APIRouter:
    """`/`."""
    router = APIRouter()

    @router.get("/")
    def show() -> Response:
        return page("Images - segpipe", "grid.html", "grid.js", viewer.name, here="/")

    return router
