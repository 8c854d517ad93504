"""The page of a morning: one HTML file without scripts, that loads nothing."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import resources

from segpipe.report.morning.charts import bars
from segpipe.report.morning.distributions import distributions
from segpipe.report.morning.gallery import gallery
from segpipe.report.morning.markup import Markup, join, name, tag
from segpipe.report.morning.record import Morning
from segpipe.report.morning.sections import about, drift, failures, missing
from segpipe.report.morning.times import times
from segpipe.report.morning.wording import (
    NONE,
    duration,
    legible,
    moment,
    number,
    percent,
    plural,
    whole,
)

_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'"

Tile = tuple[str, str, str, str, Markup | None]
"""What, the number, its unit, what more there is to say, the nights before."""


def page(told: Morning) -> str:
    """The whole file; every name in it is escaped, and no script would run if one were not."""
    style = resources.files("segpipe.report.morning").joinpath("page.css").read_text("utf-8")
    title = f"{legible(told.about.collection, 60)}: {told.headline}"
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="robots", content="noindex"),
        tag("title", title),
        tag("style", Markup(style)),
    )
    body = tag("body", tag("main", join(_header(told), _state(told), _tiles(told), _parts(told))))
    return f"<!DOCTYPE html>\n{tag('html', head, body, lang='en')}\n"


def _parts(told: Morning) -> Iterator[Markup | None]:
    yield drift(told)
    yield distributions(told)
    yield failures(told)
    yield gallery(told)
    yield missing(told)
    yield times(told)
    yield about(told)


def _header(told: Morning) -> Markup:
    night = told.tonight
    lead = f"{moment(night.started)}, {duration(night.seconds)}, with {night.model}"
    if len(night.run_ids) > 1:
        lead += f", in {len(night.run_ids)} runs"
    return tag(
        "header",
        tag("p", "Night of ", name(told.about.collection), class_="over"),
        tag("h1", told.headline.partition(";")[0]),
        tag("p", legible(lead), class_="lead"),
    )


def _state(told: Morning) -> Markup:
    """The alarms, or that there are none; a word and a sign say it as well as the colour."""
    if told.alarms:
        head = tag("p", tag("strong", f"▲ {plural(len(told.alarms), 'alarm')}"))
        found = tag("ul", (tag("li", sentence) for sentence in told.alarms))
        return tag("div", head, found, class_="state bad", role="status")
    compared = any(one.expected for one in told.comparisons)
    said = f"compared with {plural(len(told.earlier), 'earlier night')}."
    if not compared:
        said = (
            f"The distributions were not compared: "
            f"{', '.join(sorted({one.verdict for one in told.comparisons}))}."
        )
    return tag("div", tag("p", tag("strong", "✓ No alarms"), "; ", said), class_="state")


def _tiles(told: Morning) -> Markup:
    return tag(
        "dl",
        (
            tag(
                "div",
                tag("dt", what),
                tag("dd", value, tag("small", f" {unit}") if unit else None, class_="figure"),
                tag("dd", more, class_="more"),
                tag("dd", chart) if chart else None,
                class_="tile",
            )
            for what, value, unit, more, chart in _figures(told)
        ),
        class_="tiles",
    )


def _figures(told: Morning) -> Iterator[Tile]:
    night, counts, nights = told.tonight, told.counts, (*told.earlier, told.tonight)
    done = bars([float(one.images) for one in nights], "images done")
    yield "Images tonight", whole(night.images), "", f"{night.ok:,} ok, new or changed", done
    share = percent(night.failed / night.images) if night.images else NONE
    failed = bars([float(one.failed) for one in nights], "images failed")
    yield "Failed", whole(night.failed), "", f"{share} of tonight's images", failed
    found = bars([float(one.objects) for one in nights], "objects")
    more = f"{night.empty:,} images with none"
    if night.saturated:
        more += f"; {night.saturated:,} at the limit, some may be missing"
    yield "Objects", whole(night.objects), "", more, found
    speeds = [one.images_per_second or 0.0 for one in nights if one.device == night.device]
    speed = bars(speeds, "images per second")
    yield "Speed", number(night.images_per_second), "images/s", duration(night.seconds), speed
    listed = f"{counts.skipped:,} done before"
    if counts.planned != night.images:
        listed += f"; {counts.planned - night.images:,} planned and not done"
    if counts.ignored:
        listed += f"; {counts.ignored:,} files are no images"
    if counts.missing:
        listed += f"; {counts.missing:,} gone, {counts.missing_new:,} since tonight"
    yield "In the collection", whole(counts.listed), "", listed, None
