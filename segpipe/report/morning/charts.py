"""Small charts as inline SVG: a distribution against earlier ones, a strip of nights, bars."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from segpipe.report.morning.bins import Histogram
from segpipe.report.morning.drift import Comparison
from segpipe.report.morning.markup import Markup, tag
from segpipe.report.morning.statistics import PER_MILLION
from segpipe.report.morning.wording import measured, number, percent, whole

Floats = npt.NDArray[np.float64]
Place = Callable[[float], float]

_WIDTH, _HEIGHT = 380.0, 210.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 42.0, 12.0, 10.0, 44.0
_BARS = 28


@dataclass(frozen=True, slots=True)
class Axis:
    """What lies along x.

    Attributes:
        title: with its unit.
        of: what is counted along y, `images` or `objects`.
        kind: `count`: whole numbers from 0; `log`: of a logarithmic axis; `share`: 0..1, in
            millionths; `score`: 0..1; `real`: any numbers.
    """

    title: str
    of: str
    kind: str


def distribution(tonight: Histogram, before: Histogram, axis: Axis, nights: int) -> Markup | None:
    """Bars of tonight and an outline of the earlier nights, both as shares of their own total."""
    if not tonight.total:
        return None
    edges = axis_edges([one for one in (tonight, before) if one.total], axis.kind)
    bars, outline = tonight.shares(edges), before.shares(edges)
    top = nice(max(bars.max(), outline.max(), 1e-6))
    x = axis_scale(edges, axis.kind)

    def across(value: float) -> float:
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * x(value)

    def up(share: float) -> float:
        return _HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * min(1.0, share / top)

    marks = [_y_tick(top, up(top)), _y_tick(top / 2, up(top / 2)), _y_tick(0.0, up(0.0))]
    marks += [_x_tick(at, across(at), axis.kind) for at in axis_ticks(edges, axis.kind)]
    for i, (low, high) in enumerate(pairwise(edges)):
        said = f"{_range(low, high, axis.kind)}: {percent(bars[i])} of tonight's {axis.of}"
        said += f", {percent(outline[i])} before" if before.total else ""
        width = max(0.5, across(high) - across(low) - 0.8)
        y = up(bars[i])
        height = _HEIGHT - _BOTTOM - y
        bar = tag("rect", x=across(low) + 0.4, y=y, width=width, height=height, class_="bar")
        # The whole column answers a pointer, however low its bar is.
        column = tag(
            "rect", x=across(low), y=_TOP, width=width + 0.8, height=_HEIGHT - _TOP - _BOTTOM,
            class_="column",
        )  # fmt: skip
        marks.append(tag("g", tag("title", said), bar, column))
    if before.total:
        marks.append(tag("path", d=_steps(edges, outline, across, up), class_="outline"))
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    marks.append(tag("text", axis.title, x=middle, y=_HEIGHT - 6, class_="axis middle"))
    median = value_label(tonight.quantile(0.5), axis.kind)
    label = f"{axis.title}: {whole(tonight.total)} {axis.of} tonight, median {median}"
    label += f", beside the last {nights} nights" if before.total else ""
    return tag(
        "svg", tag("title", label), marks, viewBox=f"0 0 {_WIDTH:g} {_HEIGHT:g}", role="img",
        aria_label=label, class_="distribution",
    )  # fmt: skip


def strip(comparison: Comparison) -> Markup | None:
    """Earlier nights as dots from left to right, where tonight was expected, and tonight."""
    found = comparison.expected
    values = [*comparison.earlier, comparison.tonight]
    known = [value for value in values if value is not None]
    if comparison.tonight is None or len(known) < 2:
        return None
    ends = [*known, max(0.0, found.low), found.high] if found else known
    low, high = min(ends), max(ends)
    if comparison.measure.unit == "%" and found:
        high = max(max(known), min(high, 1.0))
    room = (high - low) or abs(high) or 1.0
    width, height, edge = 240.0, 46.0, 7.0

    def across(i: int) -> float:
        return edge + (width - 2 * edge) * i / (len(known) - 1)

    def up(value: float) -> float:
        part = (min(value, high) - low) / room if high > low else 0.5
        return height - edge - (height - 2 * edge) * max(0.0, part)

    marks: list[Markup] = []
    if found:
        above, below = up(found.high), up(max(found.low, low))
        marks.append(
            tag("rect", x=0.0, y=above, width=width, height=max(2.0, below - above), class_="band")
        )
        middle = up(found.median)
        marks.append(tag("line", x1=0.0, x2=width, y1=middle, y2=middle, class_="median"))
    points = " ".join(f"{across(i):.1f},{up(value):.1f}" for i, value in enumerate(known))
    marks.append(tag("polyline", points=points, class_="trail"))
    marks += [
        tag("circle", cx=across(i), cy=up(value), r=2.2, class_="night")
        for i, value in enumerate(known[:-1])
    ]
    marks.append(_tonight(across(len(known) - 1), up(known[-1]), comparison.alarm))
    label = ", ".join(measured(value, comparison.measure) for value in known[:-1])
    label = f"earlier nights: {label}; tonight: {measured(known[-1], comparison.measure)}"
    return tag(
        "svg", tag("title", label), marks, viewBox=f"0 0 {width:g} {height:g}", role="img",
        aria_label=label, class_="strip",
    )  # fmt: skip


def _tonight(x: float, y: float, alarm: bool) -> Markup:
    """A dot, or a diamond where something is the matter: the shape tells as much as the colour."""
    if alarm:
        return tag("path", d=f"M{x:.1f} {y - 6:.1f}l6 6l-6 6l-6 -6z", class_="alarm")
    return tag("circle", cx=x, cy=y, r=4.2, class_="tonight")


def bars(values: Sequence[float], label: str) -> Markup | None:
    """One bar for each night, the last of them tonight's; from zero."""
    if len(values) < 2:
        return None
    width, height, step = 120.0, 26.0, 120.0 / max(15, len(values))
    top = max([*values, 1e-9])
    marks = [
        tag(
            "rect",
            x=i * step + 0.7,
            y=height - max(1.0, height * value / top),
            width=step - 1.4,
            height=max(1.0, height * value / top),
            class_="tonight" if i == len(values) - 1 else "night",
        )
        for i, value in enumerate(values)
    ]
    said = f"{label}, by night: {', '.join(number(value) for value in values)}"
    return tag(
        "svg", tag("title", said), marks, viewBox=f"0 0 {width:g} {height:g}", role="img",
        aria_label=said, class_="bars",
        preserveAspectRatio="xMinYMax meet",
    )  # fmt: skip


def axis_edges(found: Sequence[Histogram], kind: str) -> Floats:
    """Of the bars: from the smallest to the largest value, the last few of a long tail aside."""
    low = min(one.quantile(0.002) or 0.0 for one in found)
    high = max(one.quantile(0.998) or 0.0 for one in found)
    if kind == "log":
        first, last = math.log10(max(1.0, low)), math.log10(max(2.0, high + 1))
        steps = np.logspace(first, max(last, first + 0.3), _BARS + 1)
        # Areas are whole: a bar holds whole pixels, however narrow it is.
        return np.unique(np.concatenate([[np.floor(steps[0])], np.ceil(steps[1:])]))
    if kind == "score":
        first = math.floor(low * 20) / 20
        return np.linspace(min(first, 0.9), 1.0, _BARS - 3)
    if kind == "real":
        room = (high - low) or abs(high) or 1.0
        return np.linspace(low - room / 100, high + room / 100, _BARS + 1)
    most = high + 1
    if kind == "share":
        step = nice(max(most, 1000.0) / _BARS)
        return np.arange(0.0, min(PER_MILLION, most) + step, step)
    step = max(1.0, nice(most / _BARS))
    return np.arange(0.0, most + step, step)


def axis_scale(edges: Floats, kind: str) -> Place:
    """Where a value lies on the axis, 0..1."""
    low, high = float(edges[0]), float(edges[-1])
    if kind == "log":
        span = math.log10(high / low)
        return lambda value: math.log10(value / low) / span
    return lambda value: (value - low) / (high - low)


def axis_ticks(edges: Floats, kind: str) -> list[float]:
    """Round numbers on the axis."""
    low, high = float(edges[0]), float(edges[-1])
    if kind == "log":
        powers = range(int(math.log10(low)), int(math.log10(high)) + 1)
        found = [m * 10.0**power for power in powers for m in (1, 2, 5)]
        inside = [at for at in found if low <= at <= high]
        return inside if len(inside) <= 7 else [at for at in inside if f"{at:g}"[0] == "1"]
    step = nice((high - low) / 5)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [float(f"{i * step:.12g}") for i in range(first, last + 1)]


def nice(value: float) -> float:
    """The next of 1, 2, 2.5, 5, 10 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(value))
    return next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= value * (1 - 1e-9))


def value_label(value: float | None, kind: str) -> str:
    """A number of the axis for people."""
    if kind == "share":
        return percent(None if value is None else value / PER_MILLION)
    return number(value)


def _range(low: float, high: float, kind: str) -> str:
    if kind in ("count", "log"):
        return whole(low) if high - low <= 1 else f"{whole(low)} to {whole(high - 1)}"
    return f"{value_label(low, kind)} to {value_label(high, kind)}"


def tick_label(at: float, kind: str) -> str:
    """The same for a tick, which is a round number."""
    return f"{100 * at / PER_MILLION:.3g}%" if kind == "share" else f"{at:,.10g}"


def _x_tick(at: float, x: float, kind: str) -> Markup:
    y = _HEIGHT - _BOTTOM
    shown = tick_label(at, kind)
    tick = tag("line", x1=x, x2=x, y1=y, y2=y + 4, class_="rule")
    return tag("g", tick, tag("text", shown, x=x, y=y + 16, class_="tick middle"))


def _y_tick(share: float, y: float) -> Markup:
    rule = tag("line", x1=_LEFT, x2=_WIDTH - _RIGHT, y1=y, y2=y, class_="rule")
    return tag(
        "g", rule, tag("text", f"{100 * share:.3g}%", x=_LEFT - 6, y=y + 4, class_="tick end")
    )


def _steps(edges: Floats, shares: Floats, across: Place, up: Place) -> str:
    points = [f"M{across(edges[0]):.1f} {up(0.0):.1f}"]
    for i, (low, high) in enumerate(pairwise(edges)):
        points.append(
            f"L{across(low):.1f} {up(shares[i]):.1f}L{across(high):.1f} {up(shares[i]):.1f}"
        )
    points.append(f"L{across(edges[-1]):.1f} {up(0.0):.1f}")
    return "".join(points)
