"""Which versions of two tiles share pixels, and how many: a grid, and no look at other pairs.

Each version is entered into the cells of a grid that its box covers. Two versions of a cell are
compared in the one cell that holds the first corner of what their boxes share, so each pair comes
up once. With cells of about twice an object's side the work is linear in the number of objects,
as long as only so many of them lie upon each other.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from segpipe.compiled import compiled
from segpipe.masks.seams.near import count_in
from segpipe.masks.seams.packed import X0, X1, Y0, Y1, Bools, Bytes, Int64s, PackedMasks, bit

_SMALLEST_CELL = 16
"""Pixels; smaller ones would be more to keep than to compare."""


@dataclass(frozen=True, slots=True, eq=False)
class Pairs:
    """K pairs of versions from different tiles that share pixels.

    Attributes:
        a, b: (K,) positions of the versions; a < b.
        common: (K,) pixels in both.
        seen_a, seen_b: (K,) pixels of each that the other could have had; see `find_pairs`.
    """

    a: Int64s
    b: Int64s
    common: Int64s
    seen_a: Int64s
    seen_b: Int64s

    def where(self, chosen: Bools) -> Pairs:
        """Those that are chosen, (K,)."""
        arrays = self.a, self.b, self.common, self.seen_a, self.seen_b
        return Pairs(*(array[chosen] for array in arrays))


def find_pairs(tiles: Int64s, cut: Bools, masks: PackedMasks, grown: Int64s) -> Pairs:
    """Search and count.

    A version that is whole says where the object ends, so all pixels of the other count against
    it. One that is cut says nothing beyond the edge of what its tile saw, so of the other only the
    pixels up to there count.

    Args:
        tiles: (N,) the number of each version's tile.
        cut: (N,) whether it is cut by an edge.
        masks: N.
        grown: (tiles, 4) boxes of what each tile sees.

    Returns:
        The pairs in ascending order of a, then b.
    """
    side, stride, keys, members = _grid(masks.boxes)
    found = np.empty((0, 2), np.int64)
    count = _candidates(side, stride, keys, members, tiles, masks.boxes, found)
    found = np.empty((count, 2), np.int64)
    _candidates(side, stride, keys, members, tiles, masks.boxes, found)
    a, b = found[np.lexsort((found[:, 1], found[:, 0]))].T.copy()
    counts = np.empty((3, len(a)), np.int64)
    _count(a, b, tiles, cut, masks.boxes, masks.areas, masks.starts, masks.bits, grown, counts)
    return Pairs(a, b, *counts).where(counts[0] > 0)


def _grid(boxes: Int64s) -> tuple[int, int, Int64s, Int64s]:
    """Enter each box into the cells that it covers.

    Returns:
        The side of a cell, pixels; the cells in a row of them; and the entries, see `spread`.
    """
    sides = np.maximum(boxes[:, Y1] - boxes[:, Y0], boxes[:, X1] - boxes[:, X0])
    side = max(_SMALLEST_CELL, 2 * int(np.median(sides))) if len(boxes) else _SMALLEST_CELL
    low, high = boxes[:, :2] // side, (boxes[:, 2:] - 1) // side
    stride = int(high[:, 1].max(initial=0)) + 1
    keys, members = spread(low, high, stride)
    return side, stride, keys, members


def spread(low: Int64s, high: Int64s, stride: int) -> tuple[Int64s, Int64s]:
    """Enter each of N into all cells from one to another, both included.

    Args:
        low, high: (N, 2) row and column.
        stride: cells in a row of them.

    Returns:
        For each entry the key of its cell, `row * stride + column`, ascending, and who it is of.
    """
    covered = high - low + 1
    count = covered[:, 0] * covered[:, 1]
    members = np.repeat(np.arange(len(low)), count)
    place = np.arange(len(members)) - np.repeat(np.cumsum(count) - count, count)
    down, across = np.divmod(place, covered[members, 1])
    keys = (low[members, 0] + down) * stride + low[members, 1] + across
    order = np.argsort(keys, kind="stable")
    return keys[order], members[order]


@compiled
def _candidates(
    side: int,
    stride: int,
    keys: Int64s,
    members: Int64s,
    tiles: Int64s,
    boxes: Int64s,
    found: Int64s,
) -> int:
    """Pairs from two tiles whose boxes share a pixel.

    Args:
        found: (K, 2), written as far as it goes.

    Returns:
        How many there are.
    """
    count = 0
    first = 0
    for last in range(len(keys)):
        if keys[last] != keys[first]:
            first = last
        b = members[last]
        for entry in range(first, last):
            a = members[entry]
            if tiles[a] == tiles[b]:
                continue
            y, x = max(boxes[a, Y0], boxes[b, Y0]), max(boxes[a, X0], boxes[b, X0])
            if y >= min(boxes[a, Y1], boxes[b, Y1]) or x >= min(boxes[a, X1], boxes[b, X1]):
                continue
            if y // side * stride + x // side == keys[last]:
                if count < len(found):
                    found[count, 0], found[count, 1] = min(a, b), max(a, b)
                count += 1
    return count


@compiled
def _count(
    a: Int64s,
    b: Int64s,
    tiles: Int64s,
    cut: Bools,
    boxes: Int64s,
    areas: Int64s,
    starts: Int64s,
    bits: Bytes,
    grown: Int64s,
    counts: Int64s,
) -> None:
    """Rows `common`, `seen_a` and `seen_b` of the counts (3, K), written."""
    for k in range(len(a)):
        i, j = a[k], b[k]
        counts[0, k] = _common(bits, starts[i], boxes[i], starts[j], boxes[j])
        counts[1, k], counts[2, k] = areas[i], areas[j]
        if cut[j]:
            counts[1, k] = count_in(bits, starts[i], boxes[i], grown[tiles[j]])
        if cut[i]:
            counts[2, k] = count_in(bits, starts[j], boxes[j], grown[tiles[i]])


@compiled
def _common(bits: Bytes, start_a: int, a: Int64s, start_b: int, b: Int64s) -> int:
    """Pixels that two masks, with their tight boxes, share."""
    y0, x0 = max(a[Y0], b[Y0]), max(a[X0], b[X0])
    y1, x1 = min(a[Y1], b[Y1]), min(a[X1], b[X1])
    count = 0
    for y in range(y0, y1):
        row_a = (y - a[Y0]) * (a[X1] - a[X0]) - a[X0]
        row_b = (y - b[Y0]) * (b[X1] - b[X0]) - b[X0]
        for x in range(x0, x1):
            count += bit(bits, start_a, row_a + x) and bit(bits, start_b, row_b + x)
    return count
