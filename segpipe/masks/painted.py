"""Packed objects painted into a part of their image; `paint` does it for those of a whole one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from segpipe.compiled import compiled
from segpipe.geometry import Box
from segpipe.masks.seams.packed import X0, X1, Y0, Y1, Bools, Bytes, Int64s, PackedMasks, bit

Labels = npt.NDArray[np.uint32]


@dataclass(frozen=True, slots=True, eq=False)
class Painted:
    """What a part of a label image shows.

    Attributes:
        labels: (h, w) uint32: 0 is background, i + 1 is object `numbers[i]`.
        numbers: (K,) ascending; the objects that may have a pixel here, counted from 0.
        overlapping: (K,) whether an object shares a pixel of this part with another.
    """

    labels: Labels
    numbers: Int64s
    overlapping: Bools


def paint_part(masks: PackedMasks, box: Box) -> Painted:
    """Objects come in the order of their labels: the first shows where several are."""
    low = (masks.boxes[:, Y0] < box.y1) & (masks.boxes[:, X0] < box.x1)
    high = (masks.boxes[:, Y1] > box.y0) & (masks.boxes[:, X1] > box.x0)
    numbers = np.flatnonzero(low & high)
    labels = np.zeros((box.height, box.width), np.uint32)
    overlapping = np.zeros(len(numbers), np.bool_)
    here = np.array((box.y0, box.x0), np.int64)
    _paint(masks.boxes, masks.starts, masks.bits, numbers, here, labels, overlapping)
    return Painted(labels, numbers, overlapping)


@compiled
def _paint(
    boxes: Int64s,
    starts: Int64s,
    bits: Bytes,
    numbers: Int64s,
    here: Int64s,
    labels: Labels,
    overlapping: Bools,
) -> None:
    """From the last to the first.

    Of three objects on a pixel each covers one, or is covered by one, that is marked here.
    """
    height, width = labels.shape
    for i in range(len(numbers) - 1, -1, -1):
        number = numbers[i]
        box = boxes[number]
        across = box[X1] - box[X0]
        for y in range(max(box[Y0], here[0]), min(box[Y1], here[0] + height)):
            row = (y - box[Y0]) * across - box[X0]
            for x in range(max(box[X0], here[1]), min(box[X1], here[1] + width)):
                if bit(bits, starts[number], row + x):
                    covered = labels[y - here[0], x - here[1]]
                    if covered:
                        overlapping[covered - 1] = overlapping[i] = True
                    labels[y - here[0], x - here[1]] = i + 1
