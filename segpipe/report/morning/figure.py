"""A figure of the gallery in HTML and SVG: small in its card, large when it is opened.

No script is needed: a button opens the large one as a popover, Escape closes it, and boxes ticked
in it show and hide what lies over the picture. The large one refers to the shapes of the small one,
so that each is in the page once, however often the image is shown.
"""

from __future__ import annotations

from collections.abc import Iterator

from segpipe.report.display import is_dark
from segpipe.report.morning.markup import Markup, join, name, tag
from segpipe.report.morning.pictures import Card, Drawn
from segpipe.report.morning.shapes import Shape, tags
from segpipe.report.morning.wording import legible, percent, plural, whole

_LAYERS = {"masks": "Masks", "boxes": "Boxes", "names": "Names"}


def figure(card: Card, drawn: Drawn, number: int, said: str, again: bool) -> Markup:
    """The button with the small figure, and the large one that it opens.

    Args:
        number: of the figure in the page.
        said: in a line, what there is to say of the image.
        again: it is in the page already, and is only shown once more.
    """
    about = legible(card.image.path, 90)
    layers = _again(drawn, number) if again else _layers(drawn, number)
    small = tag(
        "svg", layers, viewBox=_view(drawn), role="img", aria_label=f"{about}: {said}",
        class_="drawn",
    )  # fmt: skip
    button = tag(
        "button", small, type="button", class_="picture", popovertarget=f"large-{number}",
        aria_label=f"Enlarge {about}",
    )  # fmt: skip
    return button if again else join(button, _large(card, drawn, number, said))


def _layers(drawn: Drawn, number: int) -> Iterator[Markup | None]:
    yield _picture(drawn, number)
    yield _masks(drawn, number)
    yield _boxes(drawn, number)


def _again(drawn: Drawn, number: int) -> Iterator[Markup]:
    for layer in ["picture", "masks", "boxes"] if drawn.shapes else ["picture"]:
        yield tag("use", href=f"#{layer}-{number}", class_=f"layer-{layer}")


def _view(drawn: Drawn) -> str:
    return f"0 0 {drawn.size[0]} {drawn.size[1]}"


def _picture(drawn: Drawn, number: int) -> Markup:
    width, height = drawn.size
    return tag("image", href=drawn.uri, width=width, height=height, id=f"picture-{number}")


def _masks(drawn: Drawn, number: int) -> Markup | None:
    if not drawn.shapes:
        return None
    paths = [
        tag(
            "path", tag("title", _title(shape)), d=shape.path, fill=shape.colour,
            stroke=shape.colour,
        )
        for shape in drawn.shapes
    ]  # fmt: skip
    return tag("g", paths, id=f"masks-{number}", class_="masks")


def _boxes(drawn: Drawn, number: int) -> Markup | None:
    if not drawn.shapes:
        return None
    boxes = [
        tag(
            "rect", x=x0, y=y0, width=x1 - x0, height=y1 - y0, stroke=shape.colour,
        )
        for shape in drawn.shapes
        for x0, y0, x1, y1 in [shape.bounds]
    ]  # fmt: skip
    return tag("g", boxes, id=f"boxes-{number}", class_="boxes")


def _title(shape: Shape) -> str:
    score = "" if shape.score is None else f" {shape.score:.2f}"
    return f"{shape.label}: {legible(shape.name, 60)}{score}, {shape.area:,} px²"


def _large(card: Card, drawn: Drawn, number: int, said: str) -> Markup:
    width, height = drawn.size
    canvas = tag(
        "div",
        tag("svg", _again(drawn, number), viewBox=_view(drawn), aria_hidden="true", class_="drawn"),
        tag("div", _names(drawn), class_="layer-names", aria_hidden="true"),
        class_="canvas",
        style=f"--ratio:{width / height:.4f}",
    )
    close = tag(
        "button", "Close", type="button", popovertarget=f"large-{number}",
        popovertargetaction="hide",
    )  # fmt: skip
    head = tag(
        "div",
        tag("div", name(card.image.path, 200), tag("p", said)),
        tag("div", _switches() if drawn.shapes else None, close, class_="switches"),
        class_="head",
    )
    command = None if card.image.reason else tag("code", legible(card.command, 600))
    return tag(
        "div", head, canvas, _legend(drawn), command, popover="auto", id=f"large-{number}",
        class_="large", role="dialog", aria_label=legible(card.image.path, 90),
    )  # fmt: skip


def _switches() -> Iterator[Markup]:
    for layer, title in _LAYERS.items():
        box = tag("input", type="checkbox", checked="", class_=f"show-{layer}")
        yield tag("label", box, title)


def _names(drawn: Drawn) -> Iterator[Markup]:
    for one in tags(drawn.shapes, *drawn.size):
        kinds = ["above" if one.above else "", "right" if one.right else ""]
        dark = is_dark(bytes.fromhex(one.shape.colour[1:]))
        kinds += ["wide" if one.wide else "", "light" if dark else ""]
        place = f"left:{100 * one.x:.2f}%;top:{100 * one.y:.2f}%;--own:{one.shape.colour}"
        yield tag("span", legible(one.text, 40), class_=" ".join(filter(None, kinds)), style=place)


def _legend(drawn: Drawn) -> Markup | None:
    """All objects by name, also those without room for one; classes and their shares."""
    if drawn.legend:
        return legend_line(drawn)
    if drawn.painted:
        more = f"{plural(drawn.painted, 'object')}: too many to be named one by one."
        return tag("p", more, class_="hint")
    ranked = sorted(drawn.shapes, key=lambda shape: (-(shape.score or 0.0), shape.label))
    rows = (
        _entry(
            shape.colour,
            shape.name,
            f"{'' if shape.score is None else f'{shape.score:.2f}, '}{whole(shape.area)} px²",
        )
        for shape in ranked
    )
    return tag("ul", rows, class_="legend") if drawn.shapes else None


def _entry(colour: str, title: str, said: str) -> Markup:
    swatch = tag("i", style=f"background:{colour}")
    return tag("li", swatch, name(title, 60), " ", tag("span", said))


def legend_line(drawn: Drawn) -> Markup | None:
    """The classes of a semantic result, for the card."""
    if not drawn.legend:
        return None
    rows = (_entry(colour, one, percent(share)) for one, colour, share in drawn.legend)
    return tag("ul", rows, class_="legend")
