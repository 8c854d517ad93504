"""Objects that seem to end just before the edge of what a tile sees, made to reach it.

A network that draws objects by the pixel draws them up to the edge that cuts them. One that gives
boxes, and masks in their frames, may stop a few pixels short of it, and the object would be taken
for one that ends there.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from segpipe.geometry import Box
from segpipe.records import CroppedMask, Instances


def reach_edges(objects: Instances, seen: Box, shape: tuple[int, int], within: int) -> Instances:
    """Repeat the last row or column of a mask up to an edge that is at most `within` pixels away.

    None of these pixels comes into a result: a version that touches an edge counts in its own core
    only (`stitch`), or not at all.

    Args:
        objects: in image coordinates, inside `seen`.
        seen: what the tile sees.
        shape: (height, width) of the image, whose own borders cut nothing.
        within: pixels, fewer than the halo.
    """
    inner = Box(
        seen.y0 + within if seen.y0 > 0 else seen.y0,
        seen.x0 + within if seen.x0 > 0 else seen.x0,
        seen.y1 - within if seen.y1 < shape[0] else seen.y1,
        seen.x1 - within if seen.x1 < shape[1] else seen.x1,
    )
    masks = (_reaching(mask, seen, inner, shape) for mask in objects.masks)
    return replace(objects, masks=tuple(masks))


def _reaching(crop: CroppedMask, seen: Box, inner: Box, shape: tuple[int, int]) -> CroppedMask:
    height, width = crop.mask.shape
    if inner.contains(Box(crop.y0, crop.x0, crop.y0 + height, crop.x0 + width)):
        return crop
    rows, columns = np.flatnonzero(crop.mask.any(1)), np.flatnonzero(crop.mask.any(0))
    (top, bottom), (left, right) = rows[[0, -1]].tolist(), columns[[0, -1]].tolist()
    tight = Box(crop.y0 + top, crop.x0 + left, crop.y0 + bottom + 1, crop.x0 + right + 1)
    above, below = _gaps((tight.y0, tight.y1), (seen.y0, seen.y1), (inner.y0, inner.y1), shape[0])
    before, after = _gaps((tight.x0, tight.x1), (seen.x0, seen.x1), (inner.x0, inner.x1), shape[1])
    if not any((above, below, before, after)):
        return crop
    mask = crop.mask[top : bottom + 1, left : right + 1]
    grown = np.pad(mask, ((above, below), (before, after)), mode="edge")
    return CroppedMask(tight.y0 - above, tight.x0 - before, grown)


def _gaps(
    tight: tuple[int, int], seen: tuple[int, int], inner: tuple[int, int], side: int
) -> tuple[int, int]:
    """Along one axis: pixels from an object to the edges that it is to reach."""
    low, high = tight[0] - seen[0], seen[1] - tight[1]
    near_low = seen[0] > 0 and tight[0] <= inner[0]
    near_high = seen[1] < side and tight[1] >= inner[1]
    return low if near_low else 0, high if near_high else 0
