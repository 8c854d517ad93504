"""At which size an image is looked at: the one at which its objects are as large as in training."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional


def median_diameter(labels: npt.NDArray[np.integer[Any]]) -> float:
    """Median over the objects of the diameter of a disc of the same area.

    Args:
        labels: (H, W), 0 is background.

    Returns:
        Pixels; 0 where there is no object.
    """
    areas = np.bincount(labels.ravel())[1:]
    return median_disc(areas[areas > 0])


def median_disc(areas: npt.NDArray[np.integer[Any]]) -> float:
    """The same for objects of these areas, (N,), in pixels."""
    return float(2 * np.sqrt(np.median(areas) / np.pi)) if len(areas) else 0.0


def choose_magnification(diameter: float, wanted: float) -> float:
    """0.5, 1 or 2: whichever brings objects of `diameter` nearest to `wanted`, as a ratio."""
    if not diameter or not wanted:
        return 1.0
    return 2.0 ** min(1, max(-1, round(math.log2(wanted / diameter))))


def resample(planes: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """(N, C, H, W) float to another height and width, without aliasing."""
    if planes.shape[2:] == size:
        return planes
    smaller = size[0] < planes.shape[2]
    return functional.interpolate(
        planes, size, mode="bilinear", align_corners=False, antialias=smaller
    )
