"""From pixels to micrometres: what is measured, where the file says how large a pixel is."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

ALIKE = 0.01
"""By how much of the larger one the sides of a pixel may differ for a length to have a meaning."""

IN_MICROMETRES = ("area_um2", "centroid_y_um", "centroid_x_um", "perimeter_um")

Columns = dict[str, npt.NDArray[Any] | list[None]]


def in_micrometres(
    measures: Mapping[str, Any], pixel_size_um: tuple[float, float] | None
) -> Columns:
    """The columns `IN_MICROMETRES` of the objects of one image.

    Areas and places are exact, whatever the shape of a pixel. A perimeter counts steps along rows,
    columns and diagonals alike: it is that of pixels with the sides' geometric mean where they
    differ by 1 % at most, and otherwise not defined.

    Args:
        measures: `area`, `centroid_y`, `centroid_x`, `perimeter` of N objects, in pixels.
        pixel_size_um: (y, x), or None where it is not known, and nothing else is then.

    Returns:
        Column name -> N values, or N times None (a null).
    """
    if pixel_size_um is None:
        return {name: [None] * len(measures["area"]) for name in IN_MICROMETRES}
    y, x = pixel_size_um
    square = abs(y - x) <= ALIKE * max(y, x)
    perimeter = np.asarray(measures["perimeter"], np.float64) * math.sqrt(y * x)
    return {
        "area_um2": np.asarray(measures["area"], np.float64) * (y * x),
        "centroid_y_um": np.asarray(measures["centroid_y"], np.float64) * y,
        "centroid_x_um": np.asarray(measures["centroid_x"], np.float64) * x,
        "perimeter_um": perimeter.astype(np.float32) if square else [None] * len(perimeter),
    }
