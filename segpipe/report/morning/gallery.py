"""The images that are worth a look, each with why, its numbers, and what shows it large."""

from __future__ import annotations

from collections.abc import Iterator

from segpipe.report.morning.markup import Markup, name, tag
from segpipe.report.morning.pictures import Card
from segpipe.report.morning.record import Morning
from segpipe.report.morning.statistics import PER_MILLION
from segpipe.report.morning.wording import legible, number, percent, plural


def gallery(told: Morning) -> Markup | None:
    """Cards, the failed ones last."""
    if not told.cards:
        return None
    usual = told.tonight.objects_per_image.quantile(0.5)
    foreground = told.tonight.foreground.quantile(0.5)
    cards = tag("ul", (_card(card, usual, foreground) for card in told.cards), class_="gallery")
    share = percent(None if foreground is None else foreground / PER_MILLION)
    hint = (
        f"Furthest from tonight's medians ({number(usual)} objects, foreground {share}), least "
        "sure of their objects, drawn at random, or failed. The command shows an image large, "
        "with names and scores."
    )
    return tag("section", tag("h2", "Images worth a look"), tag("p", hint, class_="hint"), cards)


def _card(card: Card, usual: float | None, foreground: float | None) -> Markup:
    image = card.image
    text = tag(
        "div",
        tag("div", ", ".join(_why(card, usual, foreground)), class_="why"),
        name(image.path, 90),
        tag("div", _numbers(card)),
        None if image.reason else tag("code", legible(card.command, 600), tabindex="0"),
        class_="text",
    )
    return tag("li", _picture(card), text, class_="card")


def _picture(card: Card) -> Markup:
    if card.picture is None:
        sign = tag("path", d="M3 4h18v16H3zM3 4l18 16")
        icon = tag("svg", sign, viewBox="0 0 24 24", aria_hidden="true")
        said = card.image.detail if card.image.reason else card.problem
        text = tag("span", legible(said or card.problem, 200))
        return tag("div", icon, text, class_="picture none")
    width, height = card.size
    picture = tag(
        "img", src=card.uri, width=width, height=height, alt=legible(card.image.path),
        decoding="async",
    )  # fmt: skip
    return tag("div", picture, class_="picture")


def _why(card: Card, usual: float | None, foreground: float | None) -> Iterator[str]:
    image = card.image
    for kind in card.kinds:
        if kind == "failed":
            yield f"failed: {image.reason}"
        elif kind == "count":
            yield "many objects" if (image.objects or 0) > (usual or 0) else "few objects"
        elif kind == "score":
            yield "low scores"
        elif kind == "foreground":
            more = (image.foreground or 0) > (foreground or 0)
            yield "much foreground" if more else "little foreground"
        elif kind == "saturated":
            yield "as many objects as the limit"
        else:
            yield "at random"


def _numbers(card: Card) -> str:
    image = card.image
    if image.reason:
        return "" if card.picture is None else legible(image.detail or "", 200)
    parts = [plural(image.objects or 0, "object")]
    if image.score is not None:
        parts.append(f"median score {image.score:.2f}")
    if image.foreground is not None:
        parts.append(f"foreground {percent(image.foreground / PER_MILLION)}")
    return ", ".join(parts)
