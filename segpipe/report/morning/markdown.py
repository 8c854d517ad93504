"""A morning as Markdown, for a Prefect artifact: short tables, names escaped."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from segpipe.report.morning.record import Morning
from segpipe.report.morning.wording import (
    VERDICTS,
    duration,
    expected,
    legible,
    measured,
    moment,
    percent,
    whole,
)
from segpipe.store.layout import run_file
from segpipe.store.reports import REPORT

MAX_IMAGES = 10
_SPECIAL = re.compile(r"[!#$&*<>@\[\\\]^_`{|}~]|:(?=//)|(?<=www)\.", re.IGNORECASE)
"""What may begin markup, or an address that would become a link."""

_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}


def escaped(text: str, limit: int = 120) -> str:
    """Any text as one line that Markdown, its tables and the HTML made of it show as it is.

    Not for the beginning of a line, where also a digit may be markup.
    """

    def plain(found: re.Match[str]) -> str:
        return _ENTITIES.get(found[0], f"\\{found[0]}")

    return _SPECIAL.sub(plain, legible(text, limit))


def summary(told: Morning) -> str:
    """Headline, alarms, comparison, failures, and the images that are worth a look."""
    return "\n\n".join(_parts(told)) + "\n"


def _parts(told: Morning) -> Iterator[str]:
    night = told.tonight
    yield f"# {escaped(told.headline)}"
    said = told.about.collection, night.model, moment(night.started), duration(night.seconds)
    yield f"Night of {', '.join(map(escaped, said))}"
    if told.alarms:
        yield "## ▲ Alarms"
        yield "\n".join(f"- {escaped(sentence, 600)}" for sentence in told.alarms)
    compared = [one for one in told.comparisons if one.tonight is not None]
    if compared:
        yield "## Tonight against the last nights"
        yield _table(
            ("Number", "Tonight", "Expected", ""),
            "lrrl",
            (
                (
                    one.measure.title,
                    measured(one.tonight, one.measure),
                    expected(one),
                    f"{'▲ ' * one.alarm}{VERDICTS[one.verdict]}",
                )
                for one in compared
            ),
        )
    if told.failures:
        yield "## Failures"
        yield _table(
            ("Reason", "Images", "Share", "For example"),
            "lrrl",
            (
                (one.reason, whole(one.images), percent(one.images / night.images), one.example)
                for one in told.failures
            ),
        )
    if told.cards:
        yield "## Images worth a look"
        yield _table(
            ("Image", "Why", "Objects"),
            "llr",
            (
                (card.image.path, ", ".join(card.kinds), whole(card.image.objects))
                for card in told.cards[:MAX_IMAGES]
            ),
        )
    page = run_file(night.run_ids[-1], REPORT)
    yield f"The whole page, with pictures: {escaped(page)} in {escaped(told.about.store)}"


def _table(head: Iterable[str], sides: str, rows: Iterable[Iterable[str]]) -> str:
    rules = {"l": ":---", "r": "---:"}
    lines = [" | ".join(head), " | ".join(rules[side] for side in sides)]
    lines += [" | ".join(escaped(cell) for cell in row) for row in rows]
    return "\n".join(f"| {line} |" for line in lines)
