"""Where the time of a night went: in five parts, stage by stage, and what was waited for."""

from __future__ import annotations

from collections.abc import Mapping

from segpipe.report.morning.markup import Markup, join, table, tag
from segpipe.report.morning.record import Morning
from segpipe.report.morning.sections import section
from segpipe.report.morning.wording import duration, percent

_STAGES = {
    "survey": "reading headers",
    "decode": "reading and decoding",
    "preprocess": "preparing pixels",
    "forward": "the model",
    "postprocess": "making objects",
    "measure": "measuring objects",
    "write": "masks and tables",
    "commit": "making it last",
    "wait_for_images": "the model waits for images",
    "wait_for_room": "the model waits for writing",
}

_PARTS = {
    "decode": ("survey", "decode", "preprocess"),
    "device": ("forward",),
    "postprocess": ("postprocess", "measure"),
    "write": ("write", "commit"),
    "wait": ("wait_for_images", "wait_for_room"),
}
"""Part -> its stages."""

BUSY = 0.85
"""Share of its own time from which on the model is what limits."""


def times(told: Morning) -> Markup | None:
    """Where the workers' time went."""
    stages = told.tonight.stages
    total = stages.get("total", 0.0)
    if not total:
        return None
    rows = []
    for stage, meaning in _STAGES.items():
        seconds = stages.get(stage)
        if seconds is None:
            continue
        share = min(1.0, seconds / total)
        meter = tag("i", style=f"width:{100 * share:.1f}%")
        rows.append(
            (
                tag("code", stage),
                meaning,
                duration(seconds),
                duration(stages.get(f"{stage}_cores")),
                percent(seconds / total),
                tag("span", meter, class_="meter", aria_hidden="true"),
            )
        )
    head = [
        ("Stage", ""), ("", "detail"), ("Time", "number"), ("Of the cores", "number"),
        ("Share", "number"), ("", "wide"),
    ]  # fmt: skip
    hint = (
        f"Of {duration(total)} that chunks were in work, of all workers together. Stages overlap, "
        "so that their shares may add up to more than 100%."
    )
    said = limit(stages)
    return section(
        "Where the time went",
        hint,
        tag("p", said) if said else None,
        _bar(stages),
        table(head, rows, "Time of each stage"),
        class_="keep",
    )


def parts(stages: Mapping[str, float]) -> dict[str, float]:
    """Seconds of each of the five parts."""
    return {part: sum(stages.get(one, 0.0) for one in of) for part, of in _PARTS.items()}


def limit(stages: Mapping[str, float]) -> str | None:
    """What a night was waiting for, in a sentence.

    The model has a thread of its own, which computes, waits for images, or waits until what it
    found is written. None where there are no such times.
    """
    own = {one: stages.get(one, 0.0) for one in ("forward", "wait_for_images", "wait_for_room")}
    total = sum(own.values())
    if not total:
        return None
    busy, images, room = (seconds / total for seconds in own.values())
    said = f"The model computed {percent(busy)} of its time"
    if busy >= BUSY:
        return (
            f"{said}: it is the limit. A faster device, or more of them, would shorten the night."
        )
    if images >= room:
        return (
            f"{said} and waited {percent(images)} for images: reading and decoding is the limit. "
            "Nearer or faster storage, or more workers, would shorten the night."
        )
    return (
        f"{said} and waited {percent(room)} for results to be measured and written: that is the "
        "limit. More cores for each worker, or faster storage, would shorten the night."
    )


def _bar(stages: Mapping[str, float]) -> Markup:
    found = {part: seconds for part, seconds in parts(stages).items() if seconds}
    total = sum(found.values())
    pieces = [
        tag("i", class_=f"part-{part}", style=f"width:{100 * seconds / total:.2f}%")
        for part, seconds in found.items()
    ]
    words = [
        tag(
            "li", tag("i", class_=f"part-{part}"), tag("b", part),
            f" {duration(seconds)}, {percent(seconds / total)}",
        )
        for part, seconds in found.items()
    ]  # fmt: skip
    return join(
        tag("div", pieces, class_="stacked", aria_hidden="true"),
        tag("ul", words, class_="legend parts"),
    )
