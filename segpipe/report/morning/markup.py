"""HTML and SVG from functions: what is not markup yet is escaped, so none can be forgotten."""

from __future__ import annotations

import html
from collections.abc import Iterable

from segpipe.report.morning.wording import legible

_VOID = {
    "meta", "img", "br", "input", "image", "use", "rect", "line", "path", "circle", "polyline",
}  # fmt: skip


class Markup(str):
    """Text that is markup; every other `str` is plain text and gets escaped."""

    __slots__ = ()


Child = str | Iterable[str | None] | None


def tag(name: str, /, *children: Child, **attributes: str | float | None) -> Markup:
    """An element.

    Args:
        children: markup, text, iterables of them; None is left out.
        attributes: `class_` is `class`, `stroke_width` is `stroke-width`; None is left out.
    """
    parts = [name]
    for key, value in attributes.items():
        if value is not None:
            shown = f"{value:.5g}" if isinstance(value, float) else str(value)
            parts.append(f'{key.rstrip("_").replace("_", "-")}="{_escaped(shown)}"')
    opened = " ".join(parts)
    if name in _VOID and not children:
        return Markup(f"<{opened}/>")
    return Markup(f"<{opened}>{join(*children)}</{name}>")


def join(*children: Child) -> Markup:
    """Children one after another."""
    found: list[str] = []
    for child in children:
        if isinstance(child, str):
            found.append(child if isinstance(child, Markup) else _escaped(child))
        elif child is not None:
            found += [join(one) for one in child]
    return Markup("".join(found))


def _escaped(text: str) -> str:
    """Also what UTF-8 has no bytes for."""
    return html.escape(text.encode("utf-8", "backslashreplace").decode())


def name(text: str, limit: int | None = None) -> Markup:
    """A stranger's name: one line, whatever it holds, and set apart from the text around it."""
    shown = legible(text) if limit is None else legible(text, limit)
    return tag("bdi", shown, class_="name", title=None if shown == text else legible(text, 1000))


def table(
    head: Iterable[tuple[str, str]], rows: Iterable[Iterable[Child]], label: str, class_: str = ""
) -> Markup:
    """A table that scrolls by itself where it is too wide, also by keyboard.

    Args:
        head: (title, class) of each column; the class `number` sets its cells to the right.
    """
    columns = list(head)
    header = tag(
        "tr", (tag("th", title, class_=kind or None, scope="col") for title, kind in columns)
    )
    body = [
        tag(
            "tr",
            (
                tag("td", cell, class_=kind or None, data_title=title)
                for cell, (title, kind) in zip(row, columns, strict=True)
            ),
        )
        for row in rows
    ]
    inner = tag("table", tag("thead", header), tag("tbody", body), class_=class_ or None)
    return tag("div", inner, class_="scroll", role="region", aria_label=label, tabindex="0")
