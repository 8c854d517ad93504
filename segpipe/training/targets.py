"""From a label image to what the network learns to draw."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

FloatMap = npt.NDArray[np.float32]
Labels = npt.NDArray[np.integer[Any]]


def normalised_distance(labels: Labels) -> FloatMap:
    """Each pixel's distance to the border of its object, over the largest in that object.

    An object ends at the background and at other objects, but not at the image's border: there it
    may well go on.

    Args:
        labels: (H, W), 0 is background.

    Returns:
        (H, W) float32 in [0, 1]: 0 outside objects, 1 at each object's innermost pixel.
    """
    distance = np.zeros(labels.shape, np.float32)
    for index, region in enumerate(ndimage.find_objects(labels)):
        if region is None:
            continue
        grown = tuple(
            slice(max(0, side.start - 1), min(end, side.stop + 1))
            for side, end in zip(region, labels.shape, strict=True)
        )
        mask = labels[grown] == index + 1
        if mask.all():  # nothing but this object in the whole image: no border to measure from
            distance[grown] = 1.0
            continue
        depth = ndimage.distance_transform_edt(mask)
        distance[grown][mask] = (depth / depth.max())[mask]
    return distance


def touching_edges(labels: Labels, radius: int = 2) -> npt.NDArray[np.bool_]:
    """Pixels that have two different objects within `radius` (a square window), touching or nearly.

    Args:
        labels: (H, W), 0 is background.

    Returns:
        (H, W) bool.
    """
    size = 2 * radius + 1
    values = labels.astype(np.int32)
    highest = ndimage.maximum_filter(values, size, mode="nearest")
    nothing = np.iinfo(np.int32).max
    values[values == 0] = nothing
    lowest = ndimage.minimum_filter(values, size, mode="nearest")
    return np.asarray((highest != lowest) & (lowest != nothing))
