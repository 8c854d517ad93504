"""The frame that all pages share, and the files they are made of."""

from __future__ import annotations

from functools import cache
from html import escape
from importlib.resources import files
from string import Template

from starlette.responses import HTMLResponse

NAVIGATION = (("/", "Images"), ("/compare", "Compare runs"))


def page(title: str, body: str, script: str, store: str, here: str = "") -> HTMLResponse:
    """A page.

    Args:
        title: of the window.
        body: name of a file in `assets/` with the markup between header and end; it holds no data.
        script: name of a JavaScript module in `assets/`.
        store: address of the store, as the header shows it.
        here: address of this page, which the navigation marks.
    """
    links = "".join(
        f'<a href="{address}"{" aria-current=page" * (address == here)}>{escape(name)}</a>'
        for address, name in NAVIGATION
    )
    short = store.rstrip("/").rpartition("/")[2] or store
    return HTMLResponse(
        _frame().substitute(
            title=escape(title),
            body=asset(body),
            script=escape(script),
            store=escape(store),
            short=escape(short),
            links=links,
        ),
        # A page holds no data of its own: the way back to it may be instant.
        headers={"Cache-Control": "private, no-cache"},
    )


@cache
def asset(name: str) -> str:
    """A file of `assets/`, as text."""
    return (files("segpipe.viewer") / "assets" / name).read_text("utf-8")


def _frame() -> Template:
    return Template(asset("frame.html"))
