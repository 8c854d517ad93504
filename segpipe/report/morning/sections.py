"""The sections of the page, one function each; None where there is nothing to tell."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from segpipe.report.morning.bins import Histogram
from segpipe.report.morning.charts import Axis, distribution, strip
from segpipe.report.morning.drift import MIN_DISTANCE, MIN_IMAGES, MIN_NIGHTS, THRESHOLD, Comparison
from segpipe.report.morning.markup import Markup, join, name, table, tag
from segpipe.report.morning.record import Morning
from segpipe.report.morning.statistics import NightStatistics
from segpipe.report.morning.wording import (
    NONE,
    VERDICTS,
    duration,
    expected,
    legible,
    measured,
    moment,
    number,
    percent,
    plural,
    whole,
)

MAX_CLASSES_SHOWN = 20

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


def _section(
    title: str, hint: str | None, *parts: str | Iterator[Markup] | None, class_: str | None = None
) -> Markup:
    lead = tag("p", hint, class_="hint") if hint else None
    return tag("section", tag("h2", title), lead, *parts, class_=class_)


def drift(told: Morning) -> Markup:
    """Each number of tonight beside those of the nights before."""
    nights = plural(len(told.earlier), "earlier night")
    hint = (
        f"Each dot is a night, the last one tonight; the band is where {nights} make it expected: "
        f"median ±\N{NO-BREAK SPACE}{THRESHOLD} robust deviations. ◆ is an alarm."
    )
    if not any(one.expected for one in told.comparisons):
        hint = (
            f"Compared from {MIN_NIGHTS} earlier nights of {MIN_IMAGES} images on, of the same "
            f"collection and spec; there are {len(told.earlier)}."
        )
    head = [
        ("Number", "middle"), ("Tonight", "number"), ("Expected", "number"), ("Nights", "strip"),
        ("Verdict", ""),
    ]  # fmt: skip
    rows = (
        (
            one.measure.title,
            measured(one.tonight, one.measure),
            expected(one),
            strip(one),
            _verdict(one),
        )
        for one in told.comparisons
    )
    return _section(
        "Tonight against the last nights",
        hint,
        table(head, rows, "Comparison", "drift"),
        class_="keep",
    )


def _verdict(one: Comparison) -> Markup:
    sign = "◆ " if one.alarm else ""
    return tag(
        "span", f"{sign}{VERDICTS[one.verdict]}", class_="verdict bad" if one.alarm else "verdict"
    )


def distributions(told: Morning) -> Markup | None:
    """How many objects the images have, how large and how sure they are."""
    night, before = told.tonight, told.earlier
    if not night.ok:
        return None
    figures = [
        _figure(night.objects_per_image, [one.objects_per_image for one in before],
                Axis("objects in an image", "images", "count"), len(before)),
        _figure(night.areas, [one.areas for one in before],
                Axis("area of an object, px², logarithmic", "objects", "log"), len(before)),
        _figure(night.scores, [one.scores for one in before],
                Axis("score of an object", "objects", "score"), len(before)),
        _figure(night.foreground, [one.foreground for one in before],
                Axis("foreground, share of the image", "images", "share"), len(before)),
    ]  # fmt: skip
    swatch = tag("rect", x=1.0, y=2.0, width=18.0, height=8.0, class_="bar")
    outline = tag("path", d="M1 10V6h6V2h6v5h6v3", class_="outline")
    key = [_key(swatch, "tonight")]
    if before:
        key.append(_key(outline, f"the last {plural(len(before), 'night')} together"))
    return _section(
        "Distributions",
        None,
        tag("p", key, class_="hint"),
        tag("div", [one for one in figures if one], class_="charts"),
        _classes(told) if len(night.area) > 1 else None,
    )


def _key(mark: Markup, text: str) -> Markup:
    drawn = tag("svg", mark, viewBox="0 0 20 12", aria_hidden="true")
    return tag("span", drawn, text, class_="key")


def _figure(tonight: Histogram, before: list[Histogram], axis: Axis, nights: int) -> Markup | None:
    together = Histogram.sum(tonight.scale, before)
    drawn = distribution(tonight, together, axis, nights)
    return None if drawn is None else tag("figure", drawn)


def _classes(told: Morning) -> Markup:
    night = told.tonight
    earlier = _shares(told.earlier)
    ranked = sorted(night.area, key=lambda one: (-night.area[one].total, one))
    head = [
        ("Class", "wide"), ("Objects", "number"), ("Share", "number"), ("Before", "number"),
        ("Median area", "number"), ("Median score", "number"),
    ]  # fmt: skip
    rows = []
    for one in ranked[:MAX_CLASSES_SHOWN]:
        area = night.area[one]
        score = night.score.get(one)
        rows.append(
            (
                name(one, 60),
                whole(area.total),
                percent(area.total / max(1, night.objects)),
                percent(earlier.get(one, 0.0)) if earlier else NONE,
                f"{number(area.quantile(0.5))} px²",
                number(score.quantile(0.5)) if score else NONE,
            )
        )
    return join(table(head, rows, "Classes"), _more(len(ranked) - MAX_CLASSES_SHOWN, "class"))


def _shares(nights: tuple[NightStatistics, ...]) -> Mapping[str, float]:
    total = sum(night.objects for night in nights)
    names = {one for night in nights for one in night.area}
    if not total:
        return {}
    return {
        one: sum(night.area[one].total for night in nights if one in night.area) / total
        for one in names
    }


def _more(count: int, noun: str) -> Markup | None:
    several = noun + ("es" if noun.endswith("s") else "s")
    return tag("p", f"and {count:,} more {several}", class_="hint") if count > 0 else None


def failures(told: Morning) -> Markup | None:
    """Why images failed, and which."""
    night = told.tonight
    if not told.failures:
        return None
    head = [
        ("Reason", ""),
        ("Images", "number"),
        ("Share", "number"),
        ("For example", "wide"),
        ("", "detail"),
    ]
    rows = (
        (
            tag("code", one.reason),
            whole(one.images),
            percent(one.images / night.images),
            name(one.example),
            legible(one.detail, 240),
        )
        for one in told.failures
    )
    listed = [
        (name(image.path), tag("code", image.reason or ""), legible(image.detail or "", 240))
        for image in told.failed
    ]
    every: list[tuple[str, str]] = [("Image", "wide"), ("Reason", ""), ("", "detail")]
    return _section(
        "Failures",
        join(
            "An image that failed is tried again by ",
            tag("code", "segpipe retry"),
            ", or when its file changes.",
        ),
        table(head, rows, "Failures by reason"),
        tag("h3", "Images that failed", style="margin-top:1.5rem"),
        table(every, listed, "Images that failed"),
        _more(night.failed - len(listed), "image"),
    )


def missing(told: Morning) -> Markup | None:
    """What was there before and is gone; its results stay."""
    new = told.counts.missing_new
    if not new:
        return None
    rows = ((name(path),) for path in told.missing)
    return _section(
        "Gone since tonight",
        "Images that have results and are no longer in the collection. Their results stay.",
        table([("Image", "wide")], rows, "Images that are gone"),
        _more(new - len(told.missing), "image"),
    )


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
    shown = table(head, rows, "Time of each stage")
    return _section("Where the time went", hint, shown, class_="keep")


def about(told: Morning) -> Markup:
    """What ran, by what, and how alarms are told."""
    facts = told.about
    weights = facts.weights_sha256
    rows: list[tuple[str, str]] = [
        ("Collection", name(facts.collection)),
        ("Store", name(facts.store)),
        ("Model", name(facts.model)),
        ("Weights", tag("code", weights) if weights else "none"),
        ("Spec", tag("code", facts.spec_id)),
        ("Machine", f"{facts.device}, {facts.precision}, {facts.workers}"),
        ("System", facts.platform),
        ("segpipe", facts.version),
    ]
    for run in told.runs:
        ended = moment(run.ended) if run.ended else "nobody said when it ended"
        said = f"{run.status}, {moment(run.started)} to {ended}"
        rows.append(("Run", join(tag("code", run.run_id), " ", legible(said))))
    rows += [("Note", note) for note in told.notes]
    facts_list = tag(
        "dl", [join(tag("dt", key), tag("dd", value)) for key, value in rows], class_="about"
    )
    rule = (
        f"A number is unusual when it lies more than {THRESHOLD} robust standard deviations from "
        "the median of the earlier nights (the modified z-score of Iglewicz and Hoaglin, 1993; the "
        "deviation is 1.4826 times the median absolute deviation, corrected for few nights, and "
        "never less than chance or a few percent). A distribution is unusual when its "
        "Kolmogorov-Smirnov distance from the earlier nights together is above the range of their "
        f"own, and above {MIN_DISTANCE}. Nights of fewer than {MIN_IMAGES} images are not compared."
    )
    return join(_section("What ran", None, facts_list), tag("footer", tag("p", rule)))
