"""Is this night like the last ones? A robust comparison of a few numbers.

A number is unusual if it lies more than `THRESHOLD` deviations from the median of the earlier
nights, in units of their median absolute deviation: the modified z-score of B. Iglewicz and
D. C. Hoaglin, "How to Detect and Handle Outliers" (ASQC, 1993), with their threshold. One bad night
among the earlier ones moves neither. The deviation is corrected for few nights (C. Croux and
P. J. Rousseeuw, "Time-efficient algorithms for two highly robust estimators of scale", COMPSTAT
1992), and is never less than a floor, so that nights which were all equal do not make the slightest
change an alarm.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from segpipe.report.morning.measures import MEASURES, Measure, Shape
from segpipe.report.morning.statistics import NightStatistics

THRESHOLD = 3.5
"""Deviations from the median beyond which a night is unusual (Iglewicz and Hoaglin)."""

MIN_NIGHTS = 7
"""Earlier nights without which nothing is compared: the spread of fewer is hardly known."""

MIN_IMAGES = 10
"""A night of fewer images is no night to compare, nor to compare with."""

MIN_DISTANCE = 0.1
"""Two distributions that are nearer (Kolmogorov-Smirnov) are alike, however steady the nights."""

_NORMAL = 1.4826
"""Median absolute deviation -> standard deviation, of normal values: 1 / 0.6745."""

_FEW = {7: 1.14, 8: 1.129, 9: 1.107}
"""Nights -> factor without which the deviation of so few is too small, on average."""

Verdict = Literal["usual", "higher", "lower", "different", "too few nights", "too few images"]


@dataclass(frozen=True, slots=True)
class Range:
    """Where a number is expected: its median, and as far as it may lie from that."""

    median: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """One number of tonight beside the same of earlier nights.

    Attributes:
        tonight: None where the night has no such number.
        earlier: of the nights that have one, oldest first.
        expected: None where there is too little to compare.
        distance: of tonight's distribution from that of the earlier nights together, and where
            that is expected; None where the number has no distribution, or too few nights.
    """

    measure: Measure
    tonight: float | None
    earlier: tuple[float, ...]
    expected: Range | None
    verdict: Verdict
    distance: Shape | None = None

    @property
    def alarm(self) -> bool:
        if self.verdict == "different":
            return True
        side = self.measure.alarm_if
        return self.verdict in ("higher", "lower") and side in ("other", self.verdict)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        expected, shape = self.expected, self.distance
        return {
            "tonight": self.tonight,
            "earlier": list(self.earlier),
            "expected": [expected.low, expected.median, expected.high] if expected else None,
            "verdict": self.verdict,
            "alarm": self.alarm,
            "distance": [shape.distance, shape.limit] if shape else None,
        }


def expected_range(earlier: Sequence[float], floor: float) -> Range:
    """Where the next value is expected.

    Args:
        earlier: at least `MIN_NIGHTS` values.
        floor: the deviation is never taken for less.
    """
    values = np.asarray(earlier, np.float64)
    median = float(np.median(values))
    spread = float(np.median(np.abs(values - median)))
    count = len(values)
    # The median itself is off by some of the spread: its variance is pi / 2n of that of a value.
    few = _FEW.get(count, count / (count - 0.8)) * math.sqrt(1 + math.pi / (2 * count))
    reach = THRESHOLD * max(_NORMAL * few * spread, floor)
    return Range(median, median - reach, median + reach)


def compare(tonight: NightStatistics, nights: Sequence[NightStatistics]) -> list[Comparison]:
    """Each of `MEASURES`, tonight against earlier nights of the same collection and spec."""
    comparable = [night for night in nights if night.images >= MIN_IMAGES]
    return [_compare(measure, tonight, comparable) for measure in MEASURES]


def _compare(
    measure: Measure, tonight: NightStatistics, nights: Sequence[NightStatistics]
) -> Comparison:
    value = measure.value(tonight)
    if measure.same_machine:
        nights = [night for night in nights if night.device == tonight.device]
    nights = [night for night in nights if measure.value(night) is not None]
    earlier = tuple(found for night in nights if (found := measure.value(night)) is not None)
    if value is None or tonight.images < MIN_IMAGES:
        return Comparison(measure, value, earlier, None, "too few images")
    if len(earlier) < MIN_NIGHTS:
        return Comparison(measure, value, earlier, None, "too few nights")
    expected = expected_range(earlier, measure.floor(tonight, float(np.median(earlier))))
    shape = _shape(measure, tonight, nights)
    verdict: Verdict = "usual"
    if value > expected.high:
        verdict = "higher"
    elif value < expected.low:
        verdict = "lower"
    elif shape and shape.distance > shape.limit:
        verdict = "different"
    return Comparison(measure, value, earlier, expected, verdict, shape)


def _shape(
    measure: Measure, tonight: NightStatistics, nights: Sequence[NightStatistics]
) -> Shape | None:
    """How far the distribution lies from the earlier ones, which lie as far from each other."""
    if measure.histogram is None:
        return None
    found = [measure.histogram(night) for night in nights]
    distance = measure.histogram(tonight).distance(measure.together(found))
    among = [
        one.distance(measure.together([*found[:place], *found[place + 1 :]]))
        for place, one in enumerate(found)
    ]
    # Chance alone moves the distance of n images by about this much (the limiting distribution's
    # standard deviation, 0.26 / sqrt(n)).
    chance = 0.26 / math.sqrt(max(1, tonight.ok))
    return Shape(distance, max(MIN_DISTANCE, expected_range(among, chance).high))
