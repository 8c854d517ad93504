"""The first step, tile by tile: what no other tile can have seen is final, the rest waits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from segpipe.compiled import compiled
from segpipe.errors import InvariantError, SpecError
from segpipe.geometry import Box
from segpipe.masks.seams.packed import (
    X0,
    X1,
    Y0,
    Y1,
    Bools,
    Bytes,
    Int64s,
    PackedMasks,
    bit,
    loose_boxes,
    pack,
)
from segpipe.planning.tiles import Tile, Tiling
from segpipe.records import Instances


@dataclass(frozen=True, slots=True, eq=False)
class SeamObjects:
    """What `merge` needs of one tile: a version of each object that another tile may have seen.

    Attributes:
        tile: its number.
        settled: (K,) positions in the tile's `Instances` of the objects that are final.
        indices: (N,) positions of the others, ascending.
        class_ids: (N,) int32.
        scores: (N,) float32.
        masks: of N objects.
        cut: (N,) whether it reaches the edge of what the tile sees, so that it may go on there.
        in_core: (N,) whether it has a pixel in the tile's core.
    """

    tile: int
    settled: Int64s
    indices: Int64s
    class_ids: npt.NDArray[np.int32]
    scores: npt.NDArray[np.float32]
    masks: PackedMasks
    cut: Bools
    in_core: Bools


def near_seams(tiling: Tiling, tile: Tile, objects: Instances) -> SeamObjects:
    """Split what a segmenter found in a tile; objects that are settled are not looked at.

    Args:
        tiling: that the tile is of.
        tile: which was segmented.
        objects: in image coordinates, inside `tile.grown`.

    Raises:
        SpecError: tiles without a halo cut objects in two, and nobody could tell.
        InvariantError: a mask reaches out of what the tile sees, or has no pixel.
    """
    if tiling.halo == 0 and len(tiling) > 1:
        raise SpecError(
            f"{len(tiling)} tiles with a halo of 0 pixels: objects need one, larger than they are; "
            "without it only the connected regions of classes can be joined"
        )
    crops = loose_boxes(objects.masks)
    if not _inside(crops, tile.grown).all():
        out = objects.masks[int(np.argmin(_inside(crops, tile.grown)))]
        raise InvariantError(
            f"a mask of {out.mask.shape} at ({out.y0}, {out.x0}) reaches out of {tile.grown}"
        )
    alone = tiling.alone(tile)
    near = np.flatnonzero(~_inside(crops, alone))
    masks = pack([objects.masks[i] for i in near.tolist()])
    seen = _inside(masks.boxes, alone)  # Without the empty sides of its crop it may be final.
    masks, near = masks.take(~seen), near[~seen]
    settled = np.ones(len(crops), np.bool_)
    settled[near] = False
    in_core = np.empty(len(near), np.bool_)
    core = np.array((tile.core.y0, tile.core.x0, tile.core.y1, tile.core.x1), np.int64)
    _reach(masks.boxes, masks.starts, masks.bits, core, in_core)
    return SeamObjects(
        tile=tiling.number(tile),
        settled=np.flatnonzero(settled),
        indices=near,
        class_ids=objects.class_ids[near],
        scores=objects.scores[near],
        masks=masks,
        cut=_cut(masks.boxes, tile.grown, tiling.shape),
        in_core=in_core,
    )


def _inside(boxes: Int64s, region: Box) -> Bools:
    """(N,) whether all of a box lies in a region."""
    low = (boxes[:, Y0] >= region.y0) & (boxes[:, X0] >= region.x0)
    high = (boxes[:, Y1] <= region.y1) & (boxes[:, X1] <= region.x1)
    return np.asarray(low & high)


def _cut(boxes: Int64s, grown: Box, shape: tuple[int, int]) -> Bools:
    """(N,) whether a tight box touches an edge of a region that is not the image's own."""
    low = ((boxes[:, Y0] == grown.y0) & (grown.y0 > 0)) | (
        (boxes[:, X0] == grown.x0) & (grown.x0 > 0)
    )
    high = ((boxes[:, Y1] == grown.y1) & (grown.y1 < shape[0])) | (
        (boxes[:, X1] == grown.x1) & (grown.x1 < shape[1])
    )
    return np.asarray(low | high)


@compiled
def count_in(bits: Bytes, start: int, box: Int64s, window: Int64s) -> int:
    """Pixels of one mask, with its tight box, in a window."""
    y0, x0 = max(box[Y0], window[Y0]), max(box[X0], window[X0])
    y1, x1 = min(box[Y1], window[Y1]), min(box[X1], window[X1])
    width = box[X1] - box[X0]
    count = 0
    for y in range(y0, y1):
        row = (y - box[Y0]) * width - box[X0]
        for x in range(x0, x1):
            count += bit(bits, start, row + x)
    return count


@compiled
def _reach(boxes: Int64s, starts: Int64s, bits: Bytes, core: Int64s, in_core: Bools) -> None:
    """Which masks have a pixel in the core; written."""
    for i in range(len(boxes)):
        in_core[i] = count_in(bits, starts[i], boxes[i], core) > 0
