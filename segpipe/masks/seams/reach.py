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
    far = within + 1
    inner = Box(
        seen.y0 + far if seen.y0 > 0 else seen.y0,
        seen.x0 + far if seen.x0 > 0 else seen.x0,
        seen.y1 - far if seen.y1 < shape[0] else seen.y1,
        seen.x1 - far if seen.x1 < shape[1] else seen.x1,
    )
    masks = (_reaching(mask, seen, inner) for mask in objects.masks)
    return replace(objects, masks=tuple(masks))


def _reaching(crop: CroppedMask, seen: Box, inner: Box) -> CroppedMask:
    """Only what leaves the inner box is near an edge; on the image's own borders it cannot."""
    height, width = crop.mask.shape
    if inner.contains(Box(crop.y0, crop.x0, crop.y0 + height, crop.x0 + width)):
        return crop
    rows, columns = np.flatnonzero(crop.mask.any(1)), np.flatnonzero(crop.mask.any(0))
    (top, bottom), (left, right) = rows[[0, -1]].tolist(), columns[[0, -1]].tolist()
    tight = Box(crop.y0 + top, crop.x0 + left, crop.y0 + bottom + 1, crop.x0 + right + 1)
    above = tight.y0 - seen.y0 if tight.y0 < inner.y0 else 0
    before = tight.x0 - seen.x0 if tight.x0 < inner.x0 else 0
    below = seen.y1 - tight.y1 if tight.y1 > inner.y1 else 0
    after = seen.x1 - tight.x1 if tight.x1 > inner.x1 else 0
    if not any((above, below, before, after)):
        return crop
    mask = crop.mask[top : bottom + 1, left : right + 1]
    grown = np.pad(mask, ((above, below), (before, after)), mode="edge")
    return CroppedMask(tight.y0 - above, tight.x0 - before, grown)
