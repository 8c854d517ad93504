"""Per-object properties: the measured columns of the `objects` table.

Shapes agree with scikit-image's `regionprops` (van der Walt et al., PeerJ 2014), except that
solidity is of pixel squares, not of pixel centres, so that it is 1 for a rectangle of any size.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from segpipe.compiled import readable
from segpipe.errors import InvariantError
from segpipe.measure import kernels
from segpipe.records import CroppedMask, Pixels, Segmentation

Columns = dict[str, npt.NDArray[Any] | list[list[float | None]]]

_COMPILED_TYPES = (np.uint8, np.uint16, np.float32)
"""Pixel types measured as they are; every other one is converted to float64 first."""


def measure_objects(segmentation: Segmentation, pixels: Pixels) -> Columns:
    """Measure the full mask of every object, hidden parts included.

    Args:
        segmentation: the objects of one image.
        pixels: (H, W, C), finite, of the image that was segmented; any real number type.

    Returns:
        Column name -> N values, row i for label i + 1: the columns of `schema.OBJECTS` from
        `bbox_y0` to `touches_border`. The four `*_intensity` columns are lists of C numbers,
        rounded to float32, where None (a null) stands for what float32 cannot hold (beyond
        3.4e38); the others are (N,) arrays. Nothing is NaN or infinite.

    Raises:
        InvariantError: the segmentation contradicts itself or the pixels: shapes differ, an
            object has no pixel, a label has no object, a mask leaves the image.
    """
    height, width = segmentation.label_image.shape
    if pixels.ndim != 3 or pixels.shape[:2] != (height, width):
        raise InvariantError(f"pixels {pixels.shape} do not fit a {height} x {width} label image")
    n, channels = segmentation.n_objects, pixels.shape[2]
    labels, values = readable(segmentation.label_image, np.uint32), _measurable(pixels)
    boxes, visible = _boxes(labels, n)
    shapes = np.empty((n, kernels.N_SHAPES))
    intensities = np.empty((n, kernels.N_INTENSITIES, channels))

    own = segmentation.own_masks
    whole = np.array([i for i in range(n) if i + 1 not in own], np.int64)
    if not visible[whole].all():
        label = int(whole[visible[whole] == 0][0]) + 1
        raise InvariantError(f"label {label} has neither a pixel nor a mask of its own")
    measured = (
        np.empty((len(whole), *shapes.shape[1:])),
        np.empty((len(whole), *intensities.shape[1:])),
    )
    kernels.measure_regions(labels, whole + 1, boxes[whole], values, *measured)
    shapes[whole], intensities[whole] = measured
    _measure_own_masks(own, values, boxes, shapes, intensities)
    return {
        **_shape_columns(boxes, visible, shapes, (height, width)),
        **_intensity_columns(intensities),
    }


def _boxes(
    labels: npt.NDArray[np.uint32], n: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    boxes, visible = np.empty((n, 4), np.int64), np.empty(n, np.int64)
    largest = kernels.find_boxes(labels, boxes, visible)
    if largest > n:
        raise InvariantError(f"the label image holds label {largest}, but there are {n} objects")
    return boxes, visible


def _measure_own_masks(
    own: Mapping[int, CroppedMask],
    values: npt.NDArray[Any],
    boxes: npt.NDArray[np.int64],
    shapes: npt.NDArray[np.float64],
    intensities: npt.NDArray[np.float64],
) -> None:
    """Measure masks that the label image does not hold, each inside its crop."""
    one = np.ones(1, np.int64)
    for label, crop in own.items():
        if not 1 <= label <= len(boxes):
            raise InvariantError(f"a mask for label {label}, but there are {len(boxes)} objects")
        rows = slice(crop.y0, crop.y0 + crop.mask.shape[0])
        columns = slice(crop.x0, crop.x0 + crop.mask.shape[1])
        if min(crop.y0, crop.x0) < 0 or values[rows, columns].shape[:2] != crop.mask.shape:
            raise InvariantError(f"the mask of label {label} leaves the image")
        if not crop.mask.any():
            raise InvariantError(f"the mask of label {label} has no pixel")
        mask = readable(crop.mask, np.uint32)
        box, _ = _boxes(mask, 1)
        row = slice(label - 1, label)
        pixels = readable(values[rows, columns], values.dtype)
        kernels.measure_regions(mask, one, box, pixels, shapes[row], intensities[row])
        boxes[row] = box + np.array([crop.y0, crop.x0, crop.y0, crop.x0])


def _shape_columns(
    boxes: npt.NDArray[np.int64],
    visible: npt.NDArray[np.int64],
    shapes: npt.NDArray[np.float64],
    shape: tuple[int, int],
) -> Columns:
    y0, x0, y1, x1 = boxes.T
    return {
        "bbox_y0": y0.astype(np.int32),
        "bbox_x0": x0.astype(np.int32),
        "bbox_y1": y1.astype(np.int32),
        "bbox_x1": x1.astype(np.int32),
        "area": shapes[:, kernels.AREA].astype(np.int64),
        "area_visible": visible,
        "centroid_y": y0 + shapes[:, kernels.CENTROID_Y],
        "centroid_x": x0 + shapes[:, kernels.CENTROID_X],
        "perimeter": shapes[:, kernels.PERIMETER].astype(np.float32),
        "eccentricity": shapes[:, kernels.ECCENTRICITY].astype(np.float32),
        "solidity": shapes[:, kernels.SOLIDITY].astype(np.float32),
        "orientation": shapes[:, kernels.ORIENTATION].astype(np.float32),
        "touches_border": (y0 == 0) | (x0 == 0) | (y1 == shape[0]) | (x1 == shape[1]),
    }


def _intensity_columns(intensities: npt.NDArray[np.float64]) -> Columns:
    # The comparison is false for a NaN, which is what float64 overflow left behind.
    known = np.abs(intensities) <= np.finfo(np.float32).max
    stored = np.where(known, intensities, 0.0).astype(np.float32)
    table = np.ma.MaskedArray(stored, mask=~known)
    return {
        "mean_intensity": table[:, kernels.MEAN].tolist(),
        "min_intensity": table[:, kernels.MIN].tolist(),
        "max_intensity": table[:, kernels.MAX].tolist(),
        "std_intensity": table[:, kernels.STD].tolist(),
    }


def _measurable(pixels: Pixels) -> npt.NDArray[Any]:
    """Pixels in one of the few types that the loops are compiled for, values unchanged."""
    native = pixels.dtype.newbyteorder("=")
    return readable(pixels, native if native.type in _COMPILED_TYPES else np.dtype(np.float64))
