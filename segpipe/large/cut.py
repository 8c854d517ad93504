"""How a large image is cut: by what its objects measure in a few places, if nobody says it."""

from __future__ import annotations

import numpy as np

from segpipe.geometry import Box
from segpipe.masks.seams.packed import Int64s, longest_sides
from segpipe.planning.tiles import NETWORK_STRIDE, Tile, Tiling, plan_tiles
from segpipe.spec import HALOS, Tiles

CONTEXT = 32
"""Pixels around its core that a network needs to see, whatever there is."""


def side_of(tiles: Tiles, magnification: float) -> int:
    """Of a part, in pixels of the image: a network looks at as many pixels in any magnification."""
    least = HALOS * (tiles.halo or CONTEXT)
    return max(least, int(tiles.side / magnification) // NETWORK_STRIDE * NETWORK_STRIDE)


def halo_for(boxes: Int64s, side: int) -> int:
    """More than the longest side of the objects of a sample, as far as a part has room for that.

    Args:
        boxes: (N, 4) of objects that were seen whole: y0, x0, y1, x1.
        side: of a part, pixels.
    """
    longest = int(longest_sides(boxes).max(initial=CONTEXT - 1))
    return min(widest_halo(side), -(-(longest + 1) // NETWORK_STRIDE) * NETWORK_STRIDE)


def widest_halo(side: int) -> int:
    """That a part of this side has room for."""
    return max(CONTEXT, side // HALOS // NETWORK_STRIDE * NETWORK_STRIDE)


def tiling_of(shape: tuple[int, int], side: int, halo: int) -> Tiling:
    """An image of `shape` (H, W) in parts of this side, halos included."""
    return plan_tiles(shape, side - 2 * halo, halo, NETWORK_STRIDE)


def row_of(tiling: Tiling, row: int) -> list[Tile]:
    """A row of tiles, which is a unit of work, from left to right."""
    first = row * tiling.columns
    return [tiling[first + column] for column in range(tiling.columns)]


def rows_of(tiling: Tiling) -> int:
    """How many there are."""
    return len(tiling.row_borders) - 1


def sample_of(shape: tuple[int, int], side: int, count: int) -> list[Box]:
    """A few parts without halos, which lie all over an image."""
    tiling = plan_tiles(shape, side, 0, NETWORK_STRIDE)
    numbers = np.unique(np.linspace(0, len(tiling) - 1, count).astype(int))
    return [tiling[number].core for number in numbers.tolist()]
