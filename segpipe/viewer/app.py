"""The application: its routes behind its gate."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.staticfiles import StaticFiles

from segpipe.errors import InputError, SegpipeError, SpecError
from segpipe.viewer import compare, grid, image, sharing
from segpipe.viewer.gate import Gate
from segpipe.viewer.viewer import Viewer

POSTS = frozenset({sharing.PATH})
"""Paths that take POST."""


def create_app(viewer: Viewer, token: str) -> Gate:
    """The application, as an ASGI server runs it.

    Args:
        viewer: closed when the application ends.
        token: opens the door.
    """

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        viewer.close()

    # Without the generated documentation: its pages load scripts from elsewhere.
    app = FastAPI(title="segpipe view", lifespan=lifespan, openapi_url=None)
    app.mount("/assets", StaticFiles(packages=[("segpipe.viewer", "assets")]))
    for module in (grid, image, compare, sharing):
        app.include_router(module.routes(viewer))
    app.add_exception_handler(SegpipeError, _problem)
    app.add_exception_handler(RequestValidationError, _unusable)
    return Gate(app, token, POSTS)


def _problem(_: Request, error: Exception) -> JSONResponse:
    """An error that segpipe raises on purpose, for the person: `{"problem": ...}`.

    400 for what was asked wrongly, 404 for an image that cannot be shown, 500 for the store.
    """
    status = {SpecError: 400, InputError: 404}.get(type(error), 500)
    text = error.detail if isinstance(error, InputError) else str(error)
    return JSONResponse({"problem": text}, status)


def _unusable(_: Request, error: Exception) -> JSONResponse:
    """An argument of the wrong type or out of its range."""
    assert isinstance(error, RequestValidationError)
    said = [f"{'.'.join(map(str, one['loc'][1:]))}: {one['msg']}" for one in error.errors()]
    return JSONResponse({"problem": "; ".join(said)}, 400)
