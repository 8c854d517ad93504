"""The box and the whole mask of an object, from its row and the label image of its image."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from segpipe.geometry import Box
from segpipe.masks.rle import decode_part
from segpipe.records import CroppedMask


def object_box(row: Mapping[str, Any]) -> Box:
    """The box of a row of `objects`."""
    return Box(row["bbox_y0"], row["bbox_x0"], row["bbox_y1"], row["bbox_x1"])


def object_mask(row: Mapping[str, Any], labels: npt.NDArray[np.integer[Any]]) -> CroppedMask:
    """The pixels of an object, parts that others hide included, in its box.

    Args:
        row: of `objects`.
        labels: (H, W) label image of its image, not read where the row has a mask of its own.
    """
    box = object_box(row)
    if row["rle"] is None:
        return CroppedMask(box.y0, box.x0, labels[box.slices] == row["label"])
    return own_mask(row, (labels.shape[0], labels.shape[1]))


def own_mask(row: Mapping[str, Any], shape: tuple[int, int]) -> CroppedMask:
    """The same of a row with a mask of its own, in an image of `shape` (H, W)."""
    box = object_box(row)
    return CroppedMask(box.y0, box.x0, decode_part(row["rle"], shape, box))


def mask_in(crop: CroppedMask, box: Box) -> npt.NDArray[np.bool_]:
    """(h, w): a mask as it lies in a box that holds it."""
    height, width = crop.mask.shape
    mask = np.zeros((box.height, box.width), np.bool_)
    y, x = crop.y0 - box.y0, crop.x0 - box.x0
    mask[y : y + height, x : x + width] = crop.mask
    return mask
