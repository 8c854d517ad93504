"""Pixels to network input: one rule for training and inference, so that they cannot differ."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from segpipe.compiled import compiled, readable
from segpipe.records import Pixels
from segpipe.spec import PercentileScaling, Preprocess, RangeScaling, Scaling

Planes = npt.NDArray[np.float32]
"""(3, H, W) float32, contiguous."""

PLANES_BYTES = 12
"""Of `Planes`, for each pixel."""

PREPARE_BYTES = 64
"""Of `to_planes` at its peak and of a padded copy, for each pixel; measured: 12 to 48."""

DEVICE_TYPES = (np.uint8, np.uint16, np.float32)
"""Types of pixels that are scaled on the device; products of the others with a float32 are none."""


@dataclass(frozen=True, slots=True, eq=False)
class Scalable:
    """An image on its way to the device, as small as it was read, and how to scale it there.

    `pixels * gain + offset`, in float32, is what `to_planes` gives.

    Attributes:
        pixels: (H, W, C) of one of `DEVICE_TYPES`, C is 1 or 3; H and W are padded.
        shape: (height, width) of the image, which lies at the top left of them.
        gain, offset: (3,) float32, for each channel of the network's input.
        magnification: at which it is looked at, of a part of an image; None: it decides for itself.
    """

    pixels: Pixels
    shape: tuple[int, int]
    gain: npt.NDArray[np.float32]
    offset: npt.NDArray[np.float32]
    magnification: float | None = None


def to_scalable(
    pixels: Pixels,
    rule: Preprocess,
    multiple_of: int = 1,
    between: tuple[float, float] | None = None,
) -> Scalable:
    """Find how to scale an image, and leave the scaling to the device.

    Args:
        pixels, rule: as of `to_planes`.
        multiple_of: the image is mirrored below and to the right until its sides are such.
        between: the values that become 0 and 1, of a part of an image; None: by `rule`.
    """
    between = between or value_range(pixels, rule.scaling)
    if pixels.dtype.type in DEVICE_TYPES and pixels.dtype.isnative:
        gain, offset = _gain_and_offset(between, rule)
    else:
        pixels = to_planes(pixels, rule, between).transpose(1, 2, 0)
        gain, offset = np.ones(3, np.float32), np.zeros(3, np.float32)
    height, width = pixels.shape[:2]
    down, right = -height % multiple_of, -width % multiple_of
    if down or right:
        pixels = np.pad(pixels, ((0, down), (0, right), (0, 0)), mode="reflect")
    return Scalable(np.ascontiguousarray(pixels), (height, width), gain, offset)


def to_planes(
    pixels: Pixels, rule: Preprocess, between: tuple[float, float] | None = None
) -> Planes:
    """Scale, repeat grey to three channels, normalise.

    Args:
        pixels: (H, W, C), any integer or float dtype, finite; C is 1 or 3.
        rule: how to scale; from the weights file.
        between: as of `to_scalable`.

    Returns:
        (3, H, W) float32. An image of one value becomes all `(0 - mean) / std`.
    """
    gain, offset = _gain_and_offset(between or value_range(pixels, rule.scaling), rule)
    planes = np.empty((3, *pixels.shape[:2]), np.float32)
    for channel in range(3):
        source = pixels[..., channel if pixels.shape[2] == 3 else 0]
        np.multiply(source, gain[channel], out=planes[channel], casting="unsafe")
        planes[channel] += offset[channel]
    return planes


def _gain_and_offset(
    between: tuple[float, float], rule: Preprocess
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Of each channel: (x - low) / (high - low), then (x - mean) / std, as one multiply-add."""
    low, high = between
    std = np.asarray(rule.std, np.float32)
    mean = np.asarray(rule.mean, np.float32)
    span = high - low if high > low else np.inf
    gain = (1.0 / (span * std.astype(np.float64))).astype(np.float32)
    offset = (-low / span / std - mean / std).astype(np.float32)
    return gain, offset


def value_range(pixels: Pixels, scaling: Scaling) -> tuple[float, float]:
    """The values that become 0 and 1; equal when the image has one value only."""
    match scaling:
        case PercentileScaling(low=low, high=high):
            return _percentiles(pixels, low, high)
        case RangeScaling():
            if pixels.dtype in (np.uint8, np.uint16):
                return 0.0, float(np.iinfo(pixels.dtype).max)
            return float(pixels.min()), float(pixels.max())


def _percentiles(pixels: Pixels, low: float, high: float) -> tuple[float, float]:
    """Percentiles of all samples as numpy defines them; from a histogram where values are few."""
    if pixels.dtype not in (np.uint8, np.uint16):
        at_low, at_high = np.percentile(pixels, (low, high))
        return float(at_low), float(at_high)
    counts = np.zeros(np.iinfo(pixels.dtype).max + 1, np.int64)
    _count(readable(pixels, pixels.dtype).ravel(), counts)
    cumulative = np.cumsum(counts)
    ranks = np.array([low, high]) / 100 * (cumulative[-1] - 1)
    floor = np.searchsorted(cumulative, np.floor(ranks), side="right")
    ceil = np.searchsorted(cumulative, np.ceil(ranks), side="right")
    at = floor + (ranks - np.floor(ranks)) * (ceil - floor)
    return float(at[0]), float(at[1])


@compiled
def _count(samples: npt.NDArray[np.uint16], counts: npt.NDArray[np.int64]) -> None:
    """How often each value occurs; `np.bincount` would make 64-bit copies of the samples."""
    for sample in samples:
        counts[sample] += 1
