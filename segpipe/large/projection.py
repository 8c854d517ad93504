"""From the objects of a large image to its masks and measures, block by block.

A block reads its own pixels and those of the objects that have their middle in it, so every object
is measured once, whole, as it would be in a small image; one that is larger than a block is
measured by itself. What is written of a block are its own pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from segpipe.errors import InputError, Reason
from segpipe.geometry import Box
from segpipe.large.parts import Whole
from segpipe.masks.painted import Painted
from segpipe.masks.seams.packed import X0, X1, Y0, Y1, Int64s, longest_sides
from segpipe.measure.properties import measure_objects
from segpipe.object_rows import TYPES
from segpipe.records import CroppedMask, Pixels, Segmentation
from segpipe.store.masks import ArrayName, Mask
from segpipe.store.pyramids import BLOCK, blocks

MOST_PIXELS = 1 << 26
"""In the box of one object, or of the objects of one block, that are measured at a time."""

_NOTHING = (
    Segmentation(np.zeros((1, 1), np.uint32), np.zeros(0, np.float32), np.zeros(0, np.int32)),
    np.zeros((1, 1, 1), np.uint8),
)

Write = Callable[[Box, Mapping[ArrayName, Mask]], None]
Read = Callable[[Box], Pixels]


@dataclass(frozen=True, slots=True, eq=False)
class Projected:
    """What became of the objects of an image.

    Attributes:
        measures: the columns of `measure_objects` as Arrow arrays, row i for label i + 1.
        own_masks: label -> full mask, for exactly the objects that overlap another one.
    """

    measures: dict[str, pa.Array]
    own_masks: dict[int, CroppedMask]


def project(whole: Whole, shape: tuple[int, int], read: Read, write: Write) -> Projected:
    """Write the masks and measure the objects.

    Args:
        shape: (height, width) of the image.
        read: (h, w, C) pixels of a region.
        write: takes the masks of `blocks`, in their order.

    Raises:
        InputError: a part of the image is damaged; `too_large`: an object has a box of more than
            `MOST_PIXELS`.
    """
    table = _Table(len(whole.scores))
    own_masks: dict[int, CroppedMask] = {}
    owners = _owners(whole.boxes, shape)
    order = np.argsort(owners, kind="stable")
    cut = list(blocks(shape))
    ends = np.searchsorted(owners[order], np.arange(len(cut) + 1))
    for number, block in enumerate(cut):
        members = np.sort(order[ends[number] : ends[number + 1]])
        large = longest_sides(whole.boxes[members]) > BLOCK
        together = members[~large]
        region = _around(whole.boxes[together], block)
        painted = whole.paint(region)
        write(block, _masks(whole, painted, block, region))
        groups = [(together, region, painted)] if len(together) else []
        for one in members[large].tolist():
            box = _around(whole.boxes[[one]])
            _check_box(box)
            groups.append((np.array([one]), box, whole.paint(box)))
        for some, box, shown in groups:
            hidden = some[shown.overlapping[np.searchsorted(shown.numbers, some)]].tolist()
            own = {one: whole.mask(one) for one in hidden}
            segmentation = _segmentation(whole, some, own, shown, box)
            table.put(some, measure_objects(segmentation, read(box)), box, shape)
            own_masks |= {one + 1: mask for one, mask in own.items()}
    return Projected(table.columns, dict(sorted(own_masks.items())))


def _owners(boxes: Int64s, shape: tuple[int, int]) -> Int64s:
    """(N,) the number of the block that holds the middle of each box."""
    rows = (boxes[:, Y0] + boxes[:, Y1] - 1) // 2 // BLOCK
    columns = (boxes[:, X0] + boxes[:, X1] - 1) // 2 // BLOCK
    return np.asarray(rows * -(-shape[1] // BLOCK) + columns, np.int64)


def _around(boxes: Int64s, block: Box | None = None) -> Box:
    """All of them, and a block."""
    also = np.array([(block.y0, block.x0, block.y1, block.x1)] if block else []).reshape(-1, 4)
    every = np.concatenate((boxes, also)).astype(np.int64)
    low, high = every.min(0), every.max(0)
    return Box(int(low[Y0]), int(low[X0]), int(high[Y1]), int(high[X1]))


def _check_box(box: Box) -> None:
    if box.area > MOST_PIXELS:
        raise InputError(
            Reason.TOO_LARGE,
            f"an object of {box.height:,} x {box.width:,} pixels at ({box.y0:,}, {box.x0:,}) is too"
            f" large to be measured: its box may have {MOST_PIXELS:,} pixels; segment the image at"
            " a lower resolution",
        )


def _masks(
    whole: Whole, painted: Painted, block: Box, region: Box
) -> dict[ArrayName, npt.NDArray[Any]]:
    """Of a block, with the labels of the image."""
    labels = np.concatenate((np.zeros(1, np.uint32), (painted.numbers + 1).astype(np.uint32)))
    own = painted.labels[block.shift(-region.y0, -region.x0).slices]
    masks: dict[ArrayName, npt.NDArray[Any]] = {"label_image": labels[own]}
    if (semantic := whole.semantic(block)) is not None:
        masks["semantic"] = semantic
    return masks


def _segmentation(
    whole: Whole,
    some: Int64s,
    own: Mapping[int, CroppedMask],
    painted: Painted,
    region: Box,
) -> Segmentation:
    """Of a region, where `some` of the objects that it shows are labels 1, 2, ...

    Args:
        own: object -> full mask in the image, of those that overlap another one.
    """
    lookup = np.zeros(len(painted.numbers) + 1, np.uint32)
    lookup[np.searchsorted(painted.numbers, some) + 1] = np.arange(1, len(some) + 1)
    return Segmentation(
        lookup[painted.labels],
        whole.scores[some],
        whole.class_ids[some],
        own_masks={
            int(np.searchsorted(some, one)) + 1: CroppedMask(
                mask.y0 - region.y0, mask.x0 - region.x0, mask.mask
            )
            for one, mask in own.items()
        },
    )


class _Table:
    """Columns of N rows, which come in any order."""

    def __init__(self, count: int) -> None:
        self._parts: list[dict[str, pa.Array]] = []
        self._place = np.empty(count, np.int64)
        self._filled = 0

    def put(
        self, rows: Int64s, measures: Mapping[str, Any], region: Box, shape: tuple[int, int]
    ) -> None:
        """What was measured in a region of an image of `shape` (H, W)."""
        self._place[rows] = np.arange(self._filled, self._filled + len(rows))
        self._filled += len(rows)
        found = _in_image(measures, region, shape)
        self._parts.append({name: pa.array(found[name], TYPES[name]) for name in found})

    @property
    def columns(self) -> dict[str, pa.Array]:
        if not self._parts:
            return {name: pa.array([], TYPES[name]) for name in measure_objects(*_NOTHING)}
        return {
            name: pa.concat_arrays([part[name] for part in self._parts]).take(self._place)
            for name in self._parts[0]
        }


def _in_image(measures: Mapping[str, Any], region: Box, shape: tuple[int, int]) -> dict[str, Any]:
    found = dict(measures)
    for name in ("bbox_y0", "bbox_y1", "centroid_y"):
        found[name] = found[name] + np.asarray(region.y0, found[name].dtype)
    for name in ("bbox_x0", "bbox_x1", "centroid_x"):
        found[name] = found[name] + np.asarray(region.x0, found[name].dtype)
    found["touches_border"] = (
        (found["bbox_y0"] == 0)
        | (found["bbox_x0"] == 0)
        | (found["bbox_y1"] == shape[0])
        | (found["bbox_x1"] == shape[1])
    )
    return found
