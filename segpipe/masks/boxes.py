"""Objects that are boxes stay boxes, also where they were put together of several parts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from segpipe.records import CroppedMask, Instances


def fill_boxes(objects: Instances) -> Instances:
    """Each mask becomes the smallest box around its pixels; one that is a box stays as it is."""
    return replace(objects, masks=tuple(_filled(mask) for mask in objects.masks))


def _filled(crop: CroppedMask) -> CroppedMask:
    rows, columns = np.flatnonzero(crop.mask.any(1)), np.flatnonzero(crop.mask.any(0))
    (top, bottom), (left, right) = rows[[0, -1]].tolist(), columns[[0, -1]].tolist()
    full = np.ones((bottom - top + 1, right - left + 1), np.bool_)
    return CroppedMask(crop.y0 + top, crop.x0 + left, full)
