"""Masks of many objects in a few arrays, a bit for each pixel: what waits for the other tiles.

A bit is an eighth of what a mask takes, and a loop that is compiled once goes through all of them.
Bits lie row by row, the highest of each byte first, as `numpy.unpackbits` reads them; each object
begins with a byte of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from segpipe.compiled import compiled, readable
from segpipe.errors import InvariantError
from segpipe.records import CroppedMask

Int64s = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]
Bools = npt.NDArray[np.bool_]

Y0, X0, Y1, X1 = range(4)
"""Columns of boxes."""


@dataclass(frozen=True, slots=True, eq=False)
class PackedMasks:
    """N masks in image coordinates.

    Attributes:
        boxes: (N, 4) y0, x0, y1, x1, half open, and tight: each side touches a pixel of the mask.
        areas: (N,) pixels.
        starts: (N,) the byte of `bits` where each begins.
        bits: of all.
    """

    boxes: Int64s
    areas: Int64s
    starts: Int64s
    bits: Bytes

    def __len__(self) -> int:
        return len(self.areas)

    def mask(self, index: int) -> CroppedMask:
        """One of them, as it was packed but for empty rows and columns at its sides."""
        y0, x0, y1, x1 = self.boxes[index].tolist()
        start, size = int(self.starts[index]), (y1 - y0) * (x1 - x0)
        bits = np.unpackbits(self.bits[start : start - (-size // 8)], count=size)
        return CroppedMask(y0, x0, bits.view(np.bool_).reshape(y1 - y0, x1 - x0))

    def unpacked(self) -> tuple[CroppedMask, ...]:
        """All of them."""
        return tuple(self.mask(index) for index in range(len(self)))

    def take(self, chosen: Int64s | Bools) -> PackedMasks:
        """Some of them, by position or by (N,) flags; the bits are shared, not copied."""
        return PackedMasks(self.boxes[chosen], self.areas[chosen], self.starts[chosen], self.bits)

    def filled(self) -> PackedMasks:
        """All pixels of their boxes."""
        areas = (self.boxes[:, Y1] - self.boxes[:, Y0]) * (self.boxes[:, X1] - self.boxes[:, X0])
        ends = np.cumsum(-(-areas // 8))
        starts = np.concatenate((np.zeros(1, np.int64), ends))
        return PackedMasks(self.boxes, areas, starts[:-1], np.full(starts[-1], 255, np.uint8))

    def between(self, start: int, end: int) -> PackedMasks:
        """Some that lie side by side, as they were packed, with their own bits alone."""
        own = slice(start, end)
        first, last = (
            int(self.starts[at]) if at < len(self) else len(self.bits) for at in (start, end)
        )
        return PackedMasks(
            self.boxes[own], self.areas[own], self.starts[own] - first, self.bits[first:last]
        )


def longest_sides(boxes: Int64s) -> Int64s:
    """(N,) the longer side of each box."""
    longest: Int64s = np.maximum(boxes[:, Y1] - boxes[:, Y0], boxes[:, X1] - boxes[:, X0])
    return longest


def loose_boxes(masks: Sequence[CroppedMask]) -> Int64s:
    """(N, 4) boxes of the crops, in which the masks may have empty rows and columns."""
    sides = [(m.y0, m.x0, m.y0 + m.mask.shape[0], m.x0 + m.mask.shape[1]) for m in masks]
    return np.array(sides, np.int64).reshape(-1, 4)


def pack(masks: Sequence[CroppedMask]) -> PackedMasks:
    """Each mask has at least one pixel.

    Raises:
        InvariantError: a mask has none.
    """
    crops = loose_boxes(masks)
    flat = readable(stacked([mask.mask.ravel() for mask in masks], np.bool_), np.bool_)
    boxes, areas = np.empty_like(crops), np.empty(len(crops), np.int64)
    _tighten(flat, crops, boxes, areas)
    if not areas.all():
        raise InvariantError(f"mask {int(np.argmin(areas))} of {len(masks)} has no pixel")
    sizes = (boxes[:, Y1] - boxes[:, Y0]) * (boxes[:, X1] - boxes[:, X0])
    ends = np.cumsum(-(-sizes // 8))
    starts = np.concatenate((np.zeros(1, np.int64), ends))
    bits = np.zeros(starts[-1], np.uint8)
    _pack(flat, crops, boxes, starts, bits)
    return PackedMasks(boxes, areas, starts[:-1], bits)


def join(parts: Sequence[PackedMasks]) -> PackedMasks:
    """The masks of several, one after the other."""
    offsets = np.cumsum([0, *(len(part.bits) for part in parts)])[:-1]
    starts = [part.starts + offset for part, offset in zip(parts, offsets, strict=True)]
    return PackedMasks(
        stacked([part.boxes for part in parts], np.int64).reshape(-1, 4),
        stacked([part.areas for part in parts], np.int64),
        stacked(starts, np.int64),
        stacked([part.bits for part in parts], np.uint8),
    )


def stacked(arrays: Sequence[npt.NDArray[Any]], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """One array of all, of no rows where there is none."""
    return np.concatenate(arrays) if arrays else np.empty(0, dtype)


@compiled
def bit(bits: Bytes, start: int, position: int) -> bool:
    """Whether a pixel of the mask that begins at a byte is set."""
    found: bool = (bits[start + (position >> 3)] >> (7 - (position & 7))) & 1 != 0
    return found


@compiled
def _tighten(flat: Bools, crops: Int64s, boxes: Int64s, areas: Int64s) -> None:
    """The tight box and the pixels of each mask.

    Args:
        flat: the pixels of all crops in turn.
        crops: (N, 4).
        boxes, areas: written; (N, 4) and (N,).
    """
    at = 0
    for i in range(len(crops)):
        y0, x0, y1, x1 = crops[i]
        top, left, bottom, right, area = y1, x1, y0, x0, 0
        for y in range(y0, y1):
            for x in range(x0, x1):
                if flat[at]:
                    area += 1
                    top = min(top, y)
                    bottom = y + 1
                    left = min(left, x)
                    right = max(right, x + 1)
                at += 1
        boxes[i] = top, left, bottom, right
        areas[i] = area


@compiled
def _pack(flat: Bools, crops: Int64s, boxes: Int64s, starts: Int64s, bits: Bytes) -> None:
    """Write the bits of each mask in its tight box."""
    before = 0
    for i in range(len(crops)):
        width = crops[i, X1] - crops[i, X0]
        position = 0
        for y in range(boxes[i, Y0], boxes[i, Y1]):
            row = before + (y - crops[i, Y0]) * width - crops[i, X0]
            for x in range(boxes[i, X0], boxes[i, X1]):
                if flat[row + x]:
                    bits[starts[i] + (position >> 3)] |= np.uint8(128 >> (position & 7))
                position += 1
        before += (crops[i, Y1] - crops[i, Y0]) * width
