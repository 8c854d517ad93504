"""Histograms whose edges never change, so that those of chunks, runs and nights can be added.

Whole numbers are counted as in HdrHistogram (G. Tene, hdrhistogram.org): up to 127 each value by
itself, above that 64 bins in each doubling, so that a bin is at most 1/64 of its value wide.
Numbers in 0..1 are counted in 500 equal bins. Any other numbers, negative ones too, are counted by
the sign, the exponent and the first six binary digits of their 32-bit floats: again 64 bins in each
doubling, however small or large they are.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

Scale = Literal["whole", "unit", "real"]
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

_HALF = 64
_UNIT_BINS = 500
_DROPPED_BITS = 17
_LARGEST = float(np.finfo(np.float32).max)


def _none() -> Ints:
    return np.empty(0, np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class Histogram:
    """How often values fall in each bin; only bins with a value are kept.

    Attributes:
        scale: `whole`: numbers from 0, without an upper limit; `unit`: numbers in 0..1; `real`: any
            numbers; those beyond a 32-bit float's range lie in its outermost bins.
        bins: (B,) numbers of the bins, ascending.
        counts: (B,) values in each.
    """

    scale: Scale
    bins: Ints = field(default_factory=_none)
    counts: Ints = field(default_factory=_none)

    @classmethod
    def of(cls, scale: Scale, values: npt.NDArray[Any]) -> Histogram:
        """Count values; those that are NaN or null are left out.

        Raises:
            ValueError: a value is negative, or above 1 on the unit scale.
        """
        if values.dtype.kind == "f":
            values = values[np.isfinite(values)]
        if not len(values):
            return cls(scale)
        if scale != "real" and (values.min() < 0 or (scale == "unit" and values.max() > 1)):
            raise ValueError(f"{values.min()} to {values.max()}: not on the {scale} scale")
        bins, counts = np.unique(_bin_of(scale, values), return_counts=True)
        return cls(scale, bins.astype(np.int64), counts.astype(np.int64))

    @classmethod
    def sum(cls, scale: Scale, parts: Iterable[Histogram]) -> Histogram:
        """All values of all parts."""
        kept = [part for part in parts if part.total]
        if not kept:
            return cls(scale)
        bins, where = np.unique(np.concatenate([part.bins for part in kept]), return_inverse=True)
        counts = np.zeros(len(bins), np.int64)
        np.add.at(counts, where, np.concatenate([part.counts for part in kept]))
        return cls(scale, bins, counts)

    @property
    def total(self) -> int:
        return int(self.counts.sum())

    def quantile(self, share: float) -> float | None:
        """As `numpy.quantile`: exact up to 127, else within a bin; None where there is no value."""
        if not self.total:
            return None
        position = share * (self.total - 1)
        below = int(position)
        low = self._ordered(below)
        high = self._ordered(min(below + 1, self.total - 1))
        return low + (position - below) * (high - low)

    def _ordered(self, place: int) -> float:
        """The value at a place of all values in order; those of a bin lie evenly in it."""
        ends = np.cumsum(self.counts)
        index = int(np.searchsorted(ends, place, side="right"))
        low, width = _extent(self.scale, self.bins[index : index + 1])
        if self.scale == "whole" and width[0] == 1:
            return float(low[0])
        inside = place - (ends[index] - self.counts[index]) + 0.5
        return float(low[0] + width[0] * inside / self.counts[index])

    def shares(self, edges: Floats) -> Floats:
        """(E - 1,): the share of all values in [edges[i], edges[i + 1]); the last includes its end.

        Values of a bin that an edge divides are taken to lie evenly in it.
        """
        low, width = _extent(self.scale, self.bins)
        heights = np.concatenate([[0.0], np.cumsum(self.counts)])
        ends = np.concatenate([low, [low[-1] + width[-1]]]) if len(low) else np.zeros(1)
        # Between two bins nothing is added: the curve rises inside bins alone.
        x = np.ravel(np.column_stack([low, low + width])) if len(low) else ends
        y = np.ravel(np.column_stack([heights[:-1], heights[1:]])) if len(low) else np.zeros(1)
        return np.diff(np.interp(edges, x, y)) / max(1, self.total)

    def distance(self, other: Histogram) -> float:
        """Kolmogorov-Smirnov distance: the largest gap between the two cumulative shares, 0..1.

        As far as bins can tell. 0 where one of them has no value.
        """
        if not self.total or not other.total:
            return 0.0
        bins = np.union1d(self.bins, other.bins)
        return float(np.abs(self._cumulative(bins) - other._cumulative(bins)).max())

    def _cumulative(self, bins: Ints) -> Floats:
        reached = np.searchsorted(self.bins, bins, side="right")
        heights = np.concatenate([[0], np.cumsum(self.counts)])
        return np.asarray(heights[reached] / self.total, np.float64)

    def to_dict(self) -> dict[str, Any]:
        return {"scale": self.scale, "bins": self.bins.tolist(), "counts": self.counts.tolist()}

    @classmethod
    def from_dict(cls, raw: dict[str, Any]) -> Histogram:
        """Read it back.

        Raises:
            ValueError, KeyError, TypeError: it is not what `to_dict` gives.
        """
        bins, counts = (np.array(raw[key], np.int64) for key in ("bins", "counts"))
        ordered = bins.ndim == 1 and bins.shape == counts.shape and bool((np.diff(bins) > 0).all())
        if raw["scale"] not in get_args(Scale) or not ordered or (counts <= 0).any():
            raise ValueError("not a histogram")
        return cls(raw["scale"], bins, counts)


def whole_numbers() -> Histogram:
    """Of no values yet."""
    return Histogram("whole")


def _bin_of(scale: Scale, values: npt.NDArray[Any]) -> Ints:
    if scale == "unit":
        equal: Ints = np.minimum(values * _UNIT_BINS, _UNIT_BINS - 1).astype(np.int64)
        return equal
    if scale == "real":
        return _real_bin_of(values)
    whole = values.astype(np.int64)
    _, doublings = np.frexp(whole.astype(np.float64))
    shift = np.maximum(doublings - 7, 0).astype(np.int64)
    bins: Ints = (whole >> shift) + _HALF * shift
    return bins


def _real_bin_of(values: npt.NDArray[Any]) -> Ints:
    """The bits of positive floats are in the order of the floats; below zero it is turned."""
    single = np.clip(values, -_LARGEST, _LARGEST).astype(np.float32)
    sizes = np.abs(single).view(np.int32).astype(np.int64) >> _DROPPED_BITS
    bins: Ints = np.where(single < 0, -1 - sizes, sizes)
    return bins


def _real_extent(bins: Ints) -> tuple[Floats, Floats]:
    sizes = np.where(bins < 0, -1 - bins, bins)
    low, high = (
        np.minimum((ends << _DROPPED_BITS).astype(np.int32).view(np.float32), _LARGEST)
        for ends in (sizes, sizes + 1)
    )
    return np.where(bins < 0, -high, low).astype(np.float64), (high - low).astype(np.float64)


def _extent(scale: Scale, bins: Ints) -> tuple[Floats, Floats]:
    """(first value, width) of bins."""
    if scale == "real":
        return _real_extent(bins)
    if scale == "unit":
        return bins / _UNIT_BINS, np.full(len(bins), 1 / _UNIT_BINS)
    shift = np.maximum(bins // _HALF - 1, 0)
    return ((bins - _HALF * shift) << shift).astype(np.float64), (1 << shift).astype(np.float64)
