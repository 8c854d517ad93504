"""Objects that no tile has seen whole, put together along the borders of the cores.

Of each piece the pixels in its own tile's core are taken. So every pixel is decided by the tile
that answers for it, pieces neither overlap nor thicken where two tiles differ, and an object of a
chain of tiles of any length comes out whole. What was cut, and goes on in no other piece, is told.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from segpipe.compiled import compiled
from segpipe.errors import BudgetError
from segpipe.geometry import Box
from segpipe.masks.seams.near import count_in
from segpipe.masks.seams.packed import X0, X1, Y0, Y1, Bools, Bytes, Int64s, PackedMasks, bit
from segpipe.planning.tiles import Tiling
from segpipe.records import CroppedMask

_SLACK = 4
"""Pixels by which two tiles may differ on where an object crosses an edge."""


def stitch(
    tiling: Tiling, tiles: Sequence[int], pieces: Sequence[CroppedMask], limit: int
) -> CroppedMask:
    """One mask of the pieces; at least one has a pixel in its own tile's core.

    Args:
        tiles: the number of each piece's tile.
        pieces: in image coordinates.
        limit: pixels of the box of the whole, each a byte of memory.

    Raises:
        BudgetError: the box has more.
    """
    parts = [
        part
        for tile, piece in zip(tiles, pieces, strict=True)
        if (part := _part(piece, tiling[tile].core)) is not None
    ]
    y0, x0 = min(part.y0 for part in parts), min(part.x0 for part in parts)
    height = max(part.y0 + part.mask.shape[0] for part in parts) - y0
    width = max(part.x0 + part.mask.shape[1] for part in parts) - x0
    if height * width > limit:
        raise BudgetError(
            f"an object of {height} x {width} pixels at ({y0}, {x0}) is put together of "
            f"{len(parts)} parts: a mask of {height * width} pixels, allowed are {limit}; "
            "segment the image at a lower resolution, or as classes"
        )
    whole = np.zeros((height, width), np.bool_)
    for part in parts:
        h, w = part.mask.shape
        y, x = part.y0 - y0, part.x0 - x0
        whole[y : y + h, x : x + w] |= part.mask
    return CroppedMask(y0, x0, whole)


def _part(piece: CroppedMask, core: Box) -> CroppedMask | None:
    """What of a piece lies in a core, in its own box; None where nothing does."""
    height, width = piece.mask.shape
    box = core.intersect(Box(piece.y0, piece.x0, piece.y0 + height, piece.x0 + width))
    mask = piece.mask[box.shift(-piece.y0, -piece.x0).slices]
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return None
    (top, bottom), (left, right) = rows[[0, -1]].tolist(), columns[[0, -1]].tolist()
    inside = mask[top : bottom + 1, left : right + 1]
    return CroppedMask(box.y0 + top, box.x0 + left, inside)


def loose_ends(
    tiles: Int64s, masks: PackedMasks, a: Int64s, b: Int64s, grown: Int64s, shape: tuple[int, int]
) -> Bools:
    """(N,) whether a piece is cut by an edge in a place where no other piece goes on.

    Args:
        tiles: (N,) the number of each piece's tile.
        masks: N.
        a, b: (K,) and (K,): pieces of one object that share pixels.
        grown: (tiles, 4) boxes of what each tile sees.
        shape: (height, width) of the image.
    """
    from_, to = np.concatenate((a, b)), np.concatenate((b, a))
    order = np.lexsort((to, from_))
    first = np.searchsorted(from_[order], np.arange(len(tiles) + 1))
    found = np.zeros(len(tiles), np.bool_)
    borders = np.array((0, 0, *shape), np.int64)
    edges = grown[tiles]
    _loose(masks.boxes, masks.starts, masks.bits, first, to[order], edges, borders, found)
    return found


@compiled
def _loose(
    boxes: Int64s,
    starts: Int64s,
    bits: Bytes,
    first: Int64s,
    others: Int64s,
    edges: Int64s,
    borders: Int64s,
    found: Bools,
) -> None:
    """Walk along each edge that cuts a piece; each run of its pixels there has to be met."""
    window = np.empty(4, np.int64)
    for i in range(len(boxes)):
        box = boxes[i]
        width = box[X1] - box[X0]
        for side in range(4):
            if box[side] != edges[i, side] or box[side] == borders[side]:
                continue
            along_x = side in (Y0, Y1)
            fixed = box[side] - (side in (Y1, X1))
            low, high = (box[X0], box[X1]) if along_x else (box[Y0], box[Y1])
            in_run = met = False
            for step in range(low, high + 1):
                y, x = (fixed, step) if along_x else (step, fixed)
                here = step < high and bit(bits, starts[i], (y - box[Y0]) * width + x - box[X0])
                if in_run and not here and not met:
                    found[i] = True
                if not here:
                    in_run = met = False
                    continue
                in_run = True
                window[Y0], window[X0] = y - _SLACK, x - _SLACK
                window[Y1], window[X1] = y + _SLACK + 1, x + _SLACK + 1
                for k in range(first[i], first[i + 1]):
                    j = others[k]
                    if not met and count_in(bits, starts[j], boxes[j], window) > 0:
                        met = True


def whole_class(
    class_ids: npt.NDArray[np.int32], scores: npt.NDArray[np.float32], areas: Int64s
) -> tuple[int, np.float32]:
    """Of pieces: the class of most pixels, and the best score (as SAHI merges them)."""
    present, places = np.unique(class_ids, return_inverse=True)
    class_id = present[np.argmax(np.bincount(places, areas))]
    return int(class_id), np.float32(np.fmax.reduce(scores))
