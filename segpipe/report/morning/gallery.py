"""The images that are worth a look, each with why, its numbers, and what shows it large."""

from __future__ import annotations

from collections.abc import Iterator

from segpipe.report.morning.candidates import Change
from segpipe.report.morning.figure import figure, legend_line
from segpipe.report.morning.markup import Markup, name, tag
from segpipe.report.morning.pictures import Card
from segpipe.report.morning.record import Morning
from segpipe.report.morning.statistics import PER_MILLION
from segpipe.report.morning.wording import legible, number, percent, plural

_TITLES = {
    "random": "At random",
    "most": "Most objects",
    "count": "Unusual number of objects",
    "score": "Lowest scores",
    "change": "Changed most",
    "foreground": "Unusual foreground",
    "saturated": "As many objects as the limit",
    "failed": "Failed",
}


def gallery(told: Morning) -> Markup | None:
    """Cards, by what they were chosen for; an image may be in several groups, drawn once."""
    if not told.cards:
        return None
    usual = told.tonight.objects_per_image.quantile(0.5)
    foreground = told.tonight.foreground.quantile(0.5)
    numbered = list(enumerate(told.cards))
    share = percent(None if foreground is None else foreground / PER_MILLION)
    hint = (
        f"Beside tonight's medians: {number(usual)} objects, foreground {share}. A picture opens "
        "large, with names and scores, and with the command that draws it in full size."
    )
    groups: list[Markup] = []
    drawn: set[int] = set()
    for kind, title in _TITLES.items():
        own = [(place, card) for place, card in numbered if kind in card.kinds]
        if own:
            cards = [_card(card, place, usual, foreground, place in drawn) for place, card in own]
            groups += [tag("h3", title), tag("ul", cards, class_="gallery")]
            drawn.update(place for place, _ in own)
    return tag("section", tag("h2", "Images worth a look"), tag("p", hint, class_="hint"), groups)


def _card(
    card: Card, place: int, usual: float | None, foreground: float | None, again: bool
) -> Markup:
    image = card.image
    why = list(_why(card, usual, foreground))
    said = ", ".join([*why, _numbers(card)]) if _numbers(card) else ", ".join(why)
    text = tag(
        "div",
        tag("div", ", ".join(why), class_="why"),
        name(image.path, 90),
        tag("div", _numbers(card)),
        legend_line(card.drawn) if card.drawn else None,
        class_="text",
    )
    shown = figure(card, card.drawn, place, said, again) if card.drawn else _no_picture(card)
    return tag("li", shown, text, class_="card")


def _no_picture(card: Card) -> Markup:
    sign = tag("path", d="M3 4h18v16H3zM3 4l18 16")
    icon = tag("svg", sign, viewBox="0 0 24 24", aria_hidden="true")
    said = card.image.detail if card.image.reason else card.problem
    text = tag("span", legible(said or card.problem, 200))
    return tag("div", icon, text, class_="picture none")


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
        elif kind == "most":
            yield "most objects"
        elif kind == "change" and image.change:
            yield _changed(image.change)
        else:
            yield "at random"


def _changed(change: Change) -> str:
    parts = [(change.lost, "lost"), (change.gained, "gained"), (change.changed, "changed")]
    told = ", ".join(f"{count:,} {what}" for count, what in parts if count)
    return f"{told} since run {change.run_id}"


def _numbers(card: Card) -> str:
    image = card.image
    if image.reason:
        return "" if card.drawn is None else legible(image.detail or "", 200)
    parts = [plural(image.objects or 0, "object")]
    if image.score is not None:
        parts.append(f"median score {image.score:.2f}")
    if image.foreground is not None:
        parts.append(f"foreground {percent(image.foreground / PER_MILLION)}")
    return ", ".join(parts)
