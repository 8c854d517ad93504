"""Pixels to network input: one rule for training and inference, so that they cannot differ."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from segpipe.records import Pixels
from segpipe.spec import PercentileScaling, Preprocess, RangeScaling

Planes = npt.NDArray[np.float32]
"""(3, H, W) float32, contiguous."""

PLANES_BYTES = 12
"""Of `Planes`, for each pixel."""

PREPARE_BYTES = 64
"""Of `to_planes` at its peak and of a padded copy, for each pixel; measured: 12 to 48."""


def to_planes(pixels: Pixels, rule: Preprocess) -> Planes:
    """Scale, repeat grey to three channels, normalise.

    Args:
        pixels: (H, W, C), any integer or float dtype, finite; C is 1 or 3.
        rule: how to scale; from the weights file.

    Returns:
        (3, H, W) float32. An image of one value becomes all `(0 - mean) / std`.
    """
    low, high = value_range(pixels, rule.scaling)
    std = np.asarray(rule.std, np.float32)
    mean = np.asarray(rule.mean, np.float32)
    # (x - low) / (high - low), then (x - mean) / std, folded into one multiply-add per sample.
    span = high - low if high > low else np.inf
    gain = (1.0 / (span * std.astype(np.float64))).astype(np.float32)
    offset = (-low / span / std - mean / std).astype(np.float32)
    planes = np.empty((3, *pixels.shape[:2]), np.float32)
    for channel in range(3):
        source = pixels[..., channel if pixels.shape[2] == 3 else 0]
        np.multiply(source, gain[channel], out=planes[channel], casting="unsafe")
        planes[channel] += offset[channel]
    return planes


def value_range(pixels: Pixels, scaling: PercentileScaling | RangeScaling) -> tuple[float, float]:
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
    cumulative = np.cumsum(np.bincount(pixels.ravel()))
    ranks = np.array([low, high]) / 100 * (cumulative[-1] - 1)
    floor = np.searchsorted(cumulative, np.floor(ranks), side="right")
    ceil = np.searchsorted(cumulative, np.ceil(ranks), side="right")
    at = floor + (ranks - np.floor(ranks)) * (ceil - floor)
    return float(at[0]), float(at[1])
