"""Half-open integer boxes: the one convention for pixel regions.

A `Box` covers rows `y0 <= y < y1` and columns `x0 <= x < x1`. Width, height and area need no
"+ 1", boxes that touch do not intersect, and a box slices an array directly.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, order=True)
class Box:
    """The pixels of `[y0, y1) x [x0, x1)`; none where an end is not past its start."""

    y0: int
    x0: int
    y1: int
    x1: int

    @property
    def height(self) -> int:
        return max(0, self.y1 - self.y0)

    @property
    def width(self) -> int:
        return max(0, self.x1 - self.x0)

    @property
    def area(self) -> int:
        return self.height * self.width

    @property
    def empty(self) -> bool:
        return self.area == 0

    @property
    def slices(self) -> tuple[slice, slice]:
        """Index of the region in an array whose first two axes are rows and columns."""
        return slice(self.y0, self.y1), slice(self.x0, self.x1)

    def intersect(self, other: Box) -> Box:
        """The common region; empty (but never negative in size) when there is none."""
        y0, x0 = max(self.y0, other.y0), max(self.x0, other.x0)
        return Box(y0, x0, max(y0, min(self.y1, other.y1)), max(x0, min(self.x1, other.x1)))

    def clip(self, shape: tuple[int, int]) -> Box:
        """The part inside an image of `shape` (height, width)."""
        return self.intersect(Box(0, 0, *shape))

    def grow(self, halo: int) -> Box:
        """The box with `halo` more pixels on every side."""
        return Box(self.y0 - halo, self.x0 - halo, self.y1 + halo, self.x1 + halo)

    def shift(self, dy: int, dx: int) -> Box:
        """The box moved by `dy` rows and `dx` columns."""
        return Box(self.y0 + dy, self.x0 + dx, self.y1 + dy, self.x1 + dx)

    def blocks(self, height: int, width: int) -> Iterator[Box]:
        """The box in parts of at most this size, from its corner, row by row."""
        for y in range(self.y0, self.y1, height):
            for x in range(self.x0, self.x1, width):
                yield Box(y, x, y + height, x + width).intersect(self)

    def contains(self, other: Box) -> bool:
        """Whether every pixel of `other` is in this box."""
        return self.intersect(other) == other or other.empty
