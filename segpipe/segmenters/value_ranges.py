"""The range of an image's values, from parts of it: what `value_range` gives of the whole.

Percentiles need the values at a few ranks. Each pass over the image counts sixteen more bits of the
values that begin like those (a radix selection), so that a pass needs 65,536 counters for each of
them, whatever the size of the image: one pass for 8 and 16 bits, two for float32, four for float64.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import numpy.typing as npt

from segpipe.compiled import compiled, readable
from segpipe.records import Pixels
from segpipe.segmenters.preprocess import value_range
from segpipe.spec import PercentileScaling, RangeScaling, Scaling

Parts = Callable[[], Iterable[Pixels]]
"""All pixels of an image in parts, (h, w, C), of which no two have a pixel in common."""

_DIGIT = 16

Keys = npt.NDArray[np.uint64]


def streamed_range(
    dtype: np.dtype[np.generic], scaling: Scaling, parts: Parts
) -> tuple[float, float]:
    """The values that become 0 and 1; equal where the image has one value only.

    Args:
        dtype: of the pixels, any integer or float type of up to 64 bits.
        parts: called once for each pass.
    """
    match scaling:
        case PercentileScaling(low=low, high=high):
            return _percentiles(dtype, (low, high), parts)
        case RangeScaling():
            if dtype in (np.uint8, np.uint16):
                return value_range(np.zeros((1, 1, 1), dtype), scaling)
            ends = [(part.min(), part.max()) for part in parts() if part.size]
            return float(min(low for low, _ in ends)), float(max(high for _, high in ends))


def _percentiles(
    dtype: np.dtype[np.generic], percentages: tuple[float, float], parts: Parts
) -> tuple[float, float]:
    """As numpy defines them, interpolated linearly between the two nearest ranks."""
    digits = -(-8 * dtype.itemsize // _DIGIT)
    counts = _counts(parts, np.zeros(1, np.uint64), digits - 1)
    total = int(counts.sum())
    wanted = [percentage / 100 * (total - 1) for percentage in percentages]
    ranks = np.array([rank for at in wanted for rank in (np.floor(at), np.ceil(at))], np.int64)
    prefixes = np.zeros(len(ranks), np.uint64)
    for digit in reversed(range(digits)):
        if digit < digits - 1:
            counts = _counts(parts, np.unique(prefixes), digit)
        for i, row in enumerate(np.searchsorted(np.unique(prefixes), prefixes)):
            before = np.cumsum(counts[row])
            value = int(np.searchsorted(before, ranks[i], side="right"))
            ranks[i] -= before[value - 1] if value else 0
            prefixes[i] = (int(prefixes[i]) << _DIGIT) | value
    values = _values(prefixes, dtype)
    low, high = (
        float(floor) + (at - np.floor(at)) * (float(ceil) - float(floor))
        for at, floor, ceil in zip(wanted, values[::2], values[1::2], strict=True)
    )
    return low, high


def _counts(parts: Parts, prefixes: Keys, digit: int) -> npt.NDArray[np.int64]:
    """(P, 65536) how often the values that begin with each prefix go on with each digit."""
    counts = np.zeros((len(prefixes), 1 << _DIGIT), np.int64)
    for part in parts():
        _count(readable(_keys(part), np.uint64).ravel(), prefixes, digit * _DIGIT, counts)
    return counts


@compiled
def _count(keys: Keys, prefixes: Keys, shift: int, counts: npt.NDArray[np.int64]) -> None:
    """Add up one part; with the top digit there is one prefix, which all begin with."""
    for key in keys:
        digits = key >> np.uint64(shift)
        prefix = digits >> np.uint64(16)
        for row in range(len(prefixes)):
            if prefix == prefixes[row]:
                counts[row, np.int64(digits & np.uint64(0xFFFF))] += 1


def _keys(pixels: Pixels) -> Keys:
    """Numbers from 0 that are in the order of the values."""
    native = np.ascontiguousarray(pixels, pixels.dtype.newbyteorder("="))
    kind, bits = native.dtype.kind, 8 * native.dtype.itemsize
    if kind in "ub":
        return native.astype(np.uint64)
    unsigned = native.view(f"u{native.dtype.itemsize}").astype(np.uint64)
    top = np.uint64(1 << (bits - 1))
    if kind == "i":
        return unsigned ^ top
    # Of a negative float the order of the bits is the other way round; -0.0 lies next to 0.0.
    below = np.uint64((1 << bits) - 1)
    return np.where(unsigned & top, unsigned ^ below, unsigned | top)


def _values(keys: Keys, dtype: np.dtype[np.generic]) -> npt.NDArray[np.generic]:
    """`_keys` the other way round."""
    bits = 8 * dtype.itemsize
    if dtype.kind in "ub":
        return keys.astype(dtype)
    top = np.uint64(1 << (bits - 1))
    if dtype.kind == "i":
        unsigned = keys ^ top
    else:
        below = np.uint64((1 << bits) - 1)
        unsigned = np.where(keys & top, keys ^ top, keys ^ below)
    return unsigned.astype(f"u{dtype.itemsize}").view(dtype.newbyteorder("="))
