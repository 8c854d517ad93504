"""Small multiples: one distribution a class, all on the same axes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from segpipe.report.morning.bins import Histogram
from segpipe.report.morning.charts import (
    axis_edges,
    axis_scale,
    axis_ticks,
    nice,
    tick_label,
    value_label,
)
from segpipe.report.morning.markup import Markup, tag
from segpipe.report.morning.wording import percent, whole

_WIDTH, _HEIGHT = 240.0, 130.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 6.0, 6.0, 8.0, 22.0


@dataclass(frozen=True, slots=True)
class Multiple:
    """One chart: whose values, and how they are distributed."""

    title: str
    found: Histogram


def multiple(charts: Sequence[Multiple], kind: str, of: str, title: str) -> Iterator[Markup]:
    """Figures, each of shares of its own total, on one x and one y axis.

    Args:
        charts: none of them without a value.
        kind: of the x axis, as in `charts.Axis`.
        of: what is counted, `images` or `objects`.
        title: what is measured.
    """
    edges = axis_edges([one.found for one in charts], kind)
    shares = [one.found.shares(edges) for one in charts]
    top = nice(max(1e-6, *(float(one.max()) for one in shares)))
    place = axis_scale(edges, kind)
    floor = _HEIGHT - _BOTTOM

    def across(value: float) -> float:
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * place(value)

    ticks = [
        tag("text", tick_label(at, kind), x=across(at), y=floor + 16, class_="tick middle")
        for at in _few(axis_ticks(edges, kind))
    ]
    ground = tag("line", x1=_LEFT, x2=_WIDTH - _RIGHT, y1=floor, y2=floor, class_="rule")
    for one, parts in zip(charts, shares, strict=True):
        bars = [
            tag(
                "rect", x=across(low), y=floor - (floor - _TOP) * share / top, class_="bar",
                width=max(0.5, across(high) - across(low) - 0.4),
                height=(floor - _TOP) * share / top,
            )
            for share, (low, high) in zip(parts.tolist(), pairwise(edges.tolist()), strict=True)
            if share
        ]  # fmt: skip
        median = one.found.quantile(0.5)
        mark = across(min(max(median or 0.0, edges[0]), edges[-1]))
        line = tag("line", x1=mark, x2=mark, y1=_TOP - 4, y2=floor, class_="middle-line")
        said = f"median {value_label(median, kind)}, {whole(one.found.total)} {of}"
        label = f"{title}, {one.title}: {said}; the highest bar is {percent(float(parts.max()))}"
        drawn = tag(
            "svg", tag("title", label), bars, line, ground, ticks,
            viewBox=f"0 0 {_WIDTH:g} {_HEIGHT:g}", role="img", aria_label=label, class_="multiple",
        )  # fmt: skip
        yield tag("figure", tag("figcaption", tag("b", tag("bdi", one.title)), f" {said}"), drawn)


def _few(ticks: list[float]) -> list[float]:
    """Four at most: the charts are small."""
    return ticks[:: -(-len(ticks) // 4)]
