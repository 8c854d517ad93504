"""The distributions of a night: all objects together, and class by class."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from segpipe.report.morning.bins import Histogram
from segpipe.report.morning.charts import Axis, distribution
from segpipe.report.morning.columns import Column, Distributions
from segpipe.report.morning.markup import Markup, join, name, table, tag
from segpipe.report.morning.multiples import Multiple, multiple
from segpipe.report.morning.record import Morning
from segpipe.report.morning.sections import more, section
from segpipe.report.morning.statistics import NightStatistics
from segpipe.report.morning.wording import NONE, legible, number, percent, plural, whole

MAX_CLASSES_SHOWN = 20
"""In the table."""

MAX_CHARTS = 6
"""Classes that are drawn one by one, those with most objects first."""


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
    return section(
        "Distributions",
        None,
        tag("p", key, class_="hint"),
        tag("div", [one for one in figures if one], class_="charts"),
        _classes(told) if len(night.area) > 1 else None,
        by_class(told),
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
    return join(table(head, rows, "Classes"), more(len(ranked) - MAX_CLASSES_SHOWN, "class"))


def _shares(nights: tuple[NightStatistics, ...]) -> Mapping[str, float]:
    total = sum(night.objects for night in nights)
    names = {one for night in nights for one in night.area}
    if not total:
        return {}
    return {
        one: sum(night.area[one].total for night in nights if one in night.area) / total
        for one in names
    }


def by_class(told: Morning) -> Iterator[Markup | None]:
    """Small charts: for each measure one a class, side by side; of one class, columns alone."""
    night = told.tonight
    ranked = sorted(night.area, key=lambda one: (-night.area[one].total, one))
    if len(ranked) > 1:
        yield tag("h3", "Class by class")
        yield _row("Objects of the class in an image", "count", told.per_image, ranked, "images")
        yield _row("Area, px², logarithmic", "log", night.area, ranked, "objects")
        yield _row("Score", "score", night.score, ranked, "objects")
        for column in told.columns:
            yield _row(_title(column), "real", column.classes, ranked, "objects")
    elif told.columns:
        charts = (
            multiple([Multiple(_title(column), found)], "real", "objects", "measured")
            for column in told.columns
            for found in column.classes.values()
            if found.total
        )
        yield tag("div", *charts, class_="multiples")


def _title(column: Column) -> str:
    return f"{column.name}, {column.unit}" if column.unit else column.name


def _row(
    title: str, kind: str, classes: Distributions, ranked: Sequence[str], of: str
) -> Markup | None:
    shown = [one for one in ranked[:MAX_CHARTS] if one in classes and classes[one].total]
    if not shown:
        return None
    charts = multiple([Multiple(legible(one, 40), classes[one]) for one in shown], kind, of, title)
    left = sum(1 for one in ranked[MAX_CHARTS:] if one in classes)
    heading = tag("p", title, class_="measure")
    return join(heading, tag("div", charts, class_="multiples"), more(left, "class"))
