"""The sections of the page, one function each; None where there is nothing to tell."""

from __future__ import annotations

from segpipe.report.morning.charts import strip
from segpipe.report.morning.drift import MIN_DISTANCE, MIN_IMAGES, MIN_NIGHTS, THRESHOLD, Comparison
from segpipe.report.morning.markup import Child, Markup, join, name, table, tag
from segpipe.report.morning.record import Morning
from segpipe.report.morning.wording import (
    VERDICTS,
    expected,
    legible,
    measured,
    moment,
    percent,
    plural,
    whole,
)


def section(title: str, hint: str | None, *parts: Child, class_: str | None = None) -> Markup:
    """A part of the page under its title."""
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
    return section(
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


def more(count: int, noun: str) -> Markup | None:
    """How many are not shown."""
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
    return section(
        "Failures",
        join(
            "An image that failed is tried again by ",
            tag("code", "segpipe retry"),
            ", or when its file changes.",
        ),
        table(head, rows, "Failures by reason"),
        tag("h3", "Images that failed", style="margin-top:1.5rem"),
        table(every, listed, "Images that failed"),
        more(night.failed - len(listed), "image"),
    )


def missing(told: Morning) -> Markup | None:
    """What was there before and is gone; its results stay."""
    new = told.counts.missing_new
    if not new:
        return None
    rows = ((name(path),) for path in told.missing)
    return section(
        "Gone since tonight",
        "Images that have results and are no longer in the collection. Their results stay.",
        table([("Image", "wide")], rows, "Images that are gone"),
        more(new - len(told.missing), "image"),
    )


def about(told: Morning) -> Markup:
    """What ran, by what, and how alarms are told."""
    facts = told.about
    weights = facts.weights_sha256
    rows: list[tuple[str, str]] = [
        ("Collection", name(facts.collection)),
        ("Store", name(facts.store)),
        ("Model", name(facts.model)),
        ("Weights", tag("code", weights) if weights else "none"),
        ("Licence", legible(facts.licence, 200) if facts.licence else "not stated"),
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
    return join(section("What ran", None, facts_list), tag("footer", tag("p", rule)))
