"""An image too large for a worker to tiles: cores that share no pixel, and halos around them.

The cores cover each pixel once. Their borders lie on multiples of an alignment, so that a network
sees the same pixels of its grid wherever the image is cut. What is segmented is the grown region,
which the neighbours see too: an object near a border is seen whole by the tile that owns it, as
long as the halo exceeds its extent.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from segpipe.errors import InvariantError, SpecError
from segpipe.geometry import Box

NETWORK_STRIDE = 32
"""Of all networks, pixels: what begins at its multiples is seen the same, wherever one cuts."""

Int64s = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Tile:
    """A part of an image that is segmented by itself.

    Attributes:
        core: the pixels that it answers for.
        grown: the pixels that it sees: the core and its halo, within the image.
        row, column: its place in the grid.
    """

    core: Box
    grown: Box
    row: int
    column: int


@dataclass(frozen=True, slots=True)
class Tiling:
    """How an image is cut; iterate for its tiles, row by row. A tile's number counts them from 0.

    Attributes:
        shape: (height, width) of the image.
        halo: pixels that a tile sees beyond its core.
        row_borders, column_borders: where cores begin, and at the end the image's own side.
    """

    shape: tuple[int, int]
    halo: int
    row_borders: tuple[int, ...]
    column_borders: tuple[int, ...]

    @property
    def columns(self) -> int:
        """Tiles side by side."""
        return len(self.column_borders) - 1

    def __len__(self) -> int:
        return (len(self.row_borders) - 1) * self.columns

    def __iter__(self) -> Iterator[Tile]:
        return (self[number] for number in range(len(self)))

    def __getitem__(self, number: int) -> Tile:
        """
        Raises:
            IndexError: there is no tile of that number.
        """
        if not 0 <= number < len(self):
            raise IndexError(f"tile {number} of {len(self)}")
        row, column = divmod(number, self.columns)
        (y0, y1), (x0, x1) = self.row_borders[row:][:2], self.column_borders[column:][:2]
        core = Box(y0, x0, y1, x1)
        return Tile(core, core.grow(self.halo).clip(self.shape), row, column)

    def number(self, tile: Tile) -> int:
        """Of a tile, its number."""
        return tile.row * self.columns + tile.column

    def owner(self, y: int, x: int) -> int:
        """The number of the tile whose core holds a pixel of the image."""
        row, column = bisect_right(self.row_borders, y), bisect_right(self.column_borders, x)
        return (row - 1) * self.columns + column - 1

    def owners(self, y: Int64s, x: Int64s) -> Int64s:
        """The same for many pixels at once: (N,) and (N,) to (N,)."""
        rows = np.searchsorted(self.row_borders, y, "right") - 1
        columns = np.searchsorted(self.column_borders, x, "right") - 1
        return np.asarray(rows * self.columns + columns, np.int64)

    def alone(self, tile: Tile) -> Box:
        """The pixels that no other tile sees; a box without pixels where the halos meet."""
        inner = tile.core.grow(-self.halo)
        return Box(
            inner.y0 if tile.row else 0,
            inner.x0 if tile.column else 0,
            inner.y1 if tile.core.y1 < self.shape[0] else self.shape[0],
            inner.x1 if tile.core.x1 < self.shape[1] else self.shape[1],
        )

    @property
    def largest(self) -> tuple[int, int]:
        """(height, width) that no grown region exceeds."""
        height = int(np.diff(self.row_borders).max()) + 2 * self.halo
        width = int(np.diff(self.column_borders).max()) + 2 * self.halo
        return min(height, self.shape[0]), min(width, self.shape[1])


def plan_tiles(shape: tuple[int, int], core_side: int, halo: int, align: int = 1) -> Tiling:
    """Cut an image into as few tiles as `core_side` allows, of sizes as equal as `align` allows.

    Args:
        shape: (height, width), at least one pixel.
        core_side: the longest side of a core, pixels; at least `align`.
        halo: what a tile sees beyond its core, pixels; 0 for none.
        align: borders between cores are multiples of it.

    Raises:
        SpecError: one of them is out of its range.
    """
    if min(shape) < 1:
        raise SpecError(f"an image of {shape[0]} x {shape[1]} has no pixels to cut into tiles")
    if not 1 <= align <= core_side:
        raise SpecError(
            f"cores of at most {core_side} pixels cannot lie on multiples of {align}: "
            "their side must be at least that, and both at least 1"
        )
    if halo < 0:
        raise SpecError(f"a halo of {halo} pixels; it is at least 0")
    rows, columns = (_borders(side, core_side // align, align) for side in shape)
    return Tiling(shape, halo, rows, columns)


def _borders(side: int, steps: int, align: int) -> tuple[int, ...]:
    """Along one axis: cores of at most `steps` times `align` pixels."""
    total = -(-side // align)
    count = -(-total // steps)
    return (*(i * total // count * align for i in range(count)), side)


def check_complete(tiling: Tiling, numbers: Sequence[int]) -> None:
    """Whether every tile came, by number and in order, and none twice.

    Raises:
        InvariantError: not so; the first number that is wrong is told.
    """
    wrong = set(range(len(tiling))) ^ set(numbers) or {
        number for number, after in pairwise(numbers) if number >= after
    }
    if wrong:
        raise InvariantError(
            f"of {len(tiling)} tiles {len(numbers)} came: number {min(wrong)} is missing, unknown, "
            "out of order, or came twice"
        )
