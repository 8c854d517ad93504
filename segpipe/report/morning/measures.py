"""The numbers of a night that are watched: what each is, and how much of a change means nothing."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from segpipe.report.morning.bins import Histogram
from segpipe.report.morning.statistics import PER_MILLION, NightStatistics

_MEDIAN_ERROR = 0.929
"""Interquartile range / sqrt(n) -> standard error of a median, of normal values."""


@dataclass(frozen=True, slots=True)
class Shape:
    """Distance of a night's distribution from that of the nights before, and its limit, 0..1."""

    distance: float
    limit: float


@dataclass(frozen=True, slots=True)
class Measure:
    """One number.

    Attributes:
        key: in JSON.
        title: for people, with what is taken over what.
        unit: behind the number; `%` where it is a share, 0..1, that is shown as percents.
        look: what to look at when it is unusual.
        number: of a night; None where it has none.
        relative, absolute: a deviation of less, relative to the earlier nights' median or as it
            is, means nothing.
        histogram: of whose median it is the number.
        alarm_if: a change to the other side is no reason for an alarm.
        same_machine: nights on other machines are not compared.
    """

    key: str
    title: str
    unit: str
    look: str
    number: Callable[[NightStatistics], float | None]
    relative: float = 0.0
    absolute: float = 0.0
    histogram: Callable[[NightStatistics], Histogram] | None = None
    alarm_if: Literal["other", "higher", "lower"] = "other"
    same_machine: bool = False

    def value(self, night: NightStatistics) -> float | None:
        return self.number(night)

    def together(self, parts: Sequence[Histogram]) -> Histogram:
        return Histogram.sum(parts[0].scale, parts)

    def floor(self, tonight: NightStatistics, usual: float) -> float:
        """Below this a deviation means nothing: the measure's own floor, or chance if it is more.

        Objects of one image are alike, so what counts for chance are images.
        """
        own = max(self.absolute, self.relative * abs(usual))
        return max(own, self._chance(tonight, usual))

    def _chance(self, tonight: NightStatistics, usual: float) -> float:
        if self.histogram is not None:
            found = self.histogram(tonight)
            low, high = found.quantile(0.25), found.quantile(0.75)
            spread = 0.0 if low is None or high is None else high - low
            if self.unit == "%":
                spread /= PER_MILLION
            return _MEDIAN_ERROR * spread / math.sqrt(max(1, tonight.ok))
        if self.unit == "%":
            # Nights without a failure do not make one failure impossible.
            share = max(usual, 0.5 / max(1, tonight.images))
            return math.sqrt(share * (1 - share) / max(1, tonight.images))
        return 0.0


MEASURES = (
    Measure(
        "objects_per_image",
        "Objects per image, median",
        "",
        "Look at the images of unusual count below: focus, exposure, staining, or another kind "
        "of image.",
        lambda night: night.objects_per_image.quantile(0.5),
        relative=0.05,
        absolute=0.3,
        histogram=lambda night: night.objects_per_image,
    ),
    Measure(
        "object_area",
        "Area of an object, median",
        "px²",
        "Look at pixel size and magnification, and at objects that were merged or split.",
        lambda night: night.areas.quantile(0.5),
        relative=0.05,
        histogram=lambda night: night.areas,
    ),
    Measure(
        "score",
        "Score of an object, median",
        "",
        "Look at the images of low score below: the model may not know this kind of image.",
        lambda night: night.scores.quantile(0.5),
        absolute=0.01,
        histogram=lambda night: night.scores,
    ),
    Measure(
        "foreground",
        "Foreground of an image, median",
        "%",
        "Look at the images of unusual foreground below: density, debris, or a threshold that no "
        "longer fits.",
        lambda night: _share(night.foreground.quantile(0.5)),
        relative=0.05,
        absolute=0.002,
        histogram=lambda night: night.foreground,
    ),
    Measure(
        "failed",
        "Images that failed",
        "%",
        "Look at the reasons below: a disk, a transfer, or a new kind of file.",
        lambda night: night.failed / night.images if night.images else None,
        absolute=0.005,
        alarm_if="higher",
    ),
    Measure(
        "images_per_second",
        "Images per second",
        "/s",
        "Look at where the time went, at larger images, and at other work on the machine.",
        lambda night: night.images_per_second,
        relative=0.1,
        alarm_if="lower",
        same_machine=True,
    ),
)


def _share(per_million: float | None) -> float | None:
    return None if per_million is None else per_million / PER_MILLION
