"""Classes of tiles: each core keeps its own pixels, and regions are connected over all of them.

A row of tiles keeps its classes, and of the regions in each core what adds up: so regions of any
size come out as those of the whole image, of which no more than a few rows are in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from segpipe.compiled import compiled, readable
from segpipe.geometry import Box
from segpipe.items import guarded
from segpipe.large.cut import rows_of
from segpipe.large.parts import Arrays, ReadRow
from segpipe.masks.faces import Faces, faces_of, join_faces
from segpipe.masks.painted import Painted
from segpipe.masks.seams.packed import Int64s, stacked
from segpipe.planning.tiles import Tile, Tiling
from segpipe.records import CroppedMask, DecodedImage
from segpipe.segmenters.base import SemanticPartSegmenter, View

Classes = npt.NDArray[np.uint8]

ROWS_AT_HAND = 5
"""Rows of tiles whose classes are in memory; a block of the masks rarely meets more."""

_RIMS = ("top", "bottom", "left", "right")
_OF_REGIONS = ("areas", "sums", "first", "boxes")


@dataclass(frozen=True, slots=True, eq=False)
class TileClasses:
    """What was found in one tile.

    Attributes:
        classes: (h, w) of its core.
        faces: of its connected regions 1..R.
        areas: (R,) pixels.
        sums: (R,) float64: of the confidence of their pixels.
        first: (R,) the first pixel of each, counted row by row over the whole image.
        boxes: (R, 4) tight, in image coordinates.
    """

    classes: Classes
    faces: Faces
    areas: Int64s
    sums: npt.NDArray[np.float64]
    first: Int64s
    boxes: Int64s


@dataclass(frozen=True, slots=True)
class ClassParts:
    """For models whose answer on a tile is a class for each pixel."""

    segmenter: SemanticPartSegmenter[Any, Any]
    tiling: Tiling

    def found(self, tile: Tile, raw: Any, part: DecodedImage) -> TileClasses:
        classes, sure = guarded(self.segmenter.classes, raw, part.header.shape)
        own = tile.core.shift(-tile.grown.y0, -tile.grown.x0).slices
        classes = np.ascontiguousarray(classes[own])
        labels, class_ids = _regions(classes)
        count = len(class_ids)
        areas, first = np.zeros(count, np.int64), np.zeros(count, np.int64)
        sums, boxes = np.zeros(count, np.float64), np.zeros((count, 4), np.int64)
        sure = readable(sure[own], np.float32)
        place = tile.core.y0, tile.core.x0, self.tiling.shape[1]
        _add_up(readable(labels, np.int32), sure, np.array(place), areas, sums, first, boxes)
        return TileClasses(
            classes,
            faces_of(self.tiling, tile, labels, class_ids),
            areas,
            sums,
            first,
            boxes,
        )

    def refined(
        self,
        found: TileClasses,
        tile: Tile,  # noqa: ARG002
        read: Callable[[], DecodedImage],  # noqa: ARG002
        view: View,  # noqa: ARG002
    ) -> TileClasses:
        """As it is: pixels have no limit."""
        return found

    def arrays(self, found: Sequence[TileClasses]) -> dict[str, npt.NDArray[Any]]:
        return {
            "classes": np.concatenate([one.classes for one in found], axis=1),
            "tile": np.array([one.faces.tile for one in found], np.int64),
            "widths": np.array([one.classes.shape[1] for one in found], np.int64),
            "n_regions": np.array([len(one.areas) for one in found], np.int64),
            "class_ids": np.concatenate([one.faces.class_ids for one in found]),
            **{name: np.concatenate([getattr(one.faces, name) for one in found]) for name in _RIMS},
            **{name: np.concatenate([getattr(one, name) for one in found]) for name in _OF_REGIONS},
        }

    def whole(self, read_row: ReadRow) -> ClassWhole:
        rows = [
            {name: array for name, array in read_row(row).items() if name != "classes"}
            for row in range(rows_of(self.tiling))
        ]
        faces = [one for row in rows for one in _faces(row)]
        numbers = join_faces(self.tiling, faces)
        regions = np.concatenate([numbers[one.tile][1:] for one in faces]).astype(np.int64) - 1
        gathered = (np.concatenate([row[name] for row in rows]) for name in _OF_REGIONS)
        areas, sums, first, boxes = _joined(regions, *gathered)
        class_ids = np.zeros(len(areas), np.int32)
        class_ids[regions] = np.concatenate([row["class_ids"] for row in rows])

        order = np.argsort(first)
        order = order[areas[order] >= self.segmenter.min_area]
        labels = np.zeros(len(areas) + 1, np.uint32)
        labels[order + 1] = np.arange(1, len(order) + 1)
        return ClassWhole(
            self.tiling,
            read_row,
            {tile: labels[own] for tile, own in numbers.items()},
            boxes[order],
            (sums[order] / areas[order]).astype(np.float32),
            class_ids[order],
        )


class ClassWhole:
    """The regions of the image, which are numbered tile by tile, and its classes."""

    saturated = False
    n_discarded = 0

    def __init__(
        self,
        tiling: Tiling,
        read_row: ReadRow,
        labels: dict[int, npt.NDArray[np.uint32]],
        boxes: Int64s,
        scores: npt.NDArray[np.float32],
        class_ids: npt.NDArray[np.int32],
    ) -> None:
        """`labels` has, for each tile, the label of each of its regions 1..R; 0 for none."""
        self._tiling = tiling
        self._labels = labels
        self._row = lru_cache(maxsize=ROWS_AT_HAND)(lambda row: read_row(row)["classes"])
        self.boxes, self.scores, self.class_ids = boxes, scores, class_ids

    def paint(self, box: Box) -> Painted:
        labels = np.zeros((box.height, box.width), np.uint32)
        for tile in self._tiles(box):
            regions, _ = _regions(self._row(tile.row)[:, tile.core.x0 : tile.core.x1])
            common = tile.core.intersect(box)
            inside = regions[common.shift(-tile.core.y0, -tile.core.x0).slices]
            lookup = self._labels[self._tiling.number(tile)]
            labels[common.shift(-box.y0, -box.x0).slices] = lookup[inside]
        present, places = np.unique(labels, return_inverse=True)
        numbers = present[present > 0].astype(np.int64) - 1
        own = places.reshape(labels.shape).astype(np.uint32) + np.uint32(present[0] > 0)
        return Painted(own, numbers, np.zeros(len(numbers), np.bool_))

    def mask(self, number: int) -> CroppedMask:
        y0, x0, y1, x1 = self.boxes[number].tolist()
        found = self.paint(Box(y0, x0, y1, x1))
        own = int(np.searchsorted(found.numbers, number)) + 1
        return CroppedMask(y0, x0, found.labels == own)

    def semantic(self, box: Box) -> Classes:
        classes = np.zeros((box.height, box.width), np.uint8)
        for tile in self._tiles(box):
            if tile.column:
                continue  # a row of tiles is one array
            band = Box(tile.core.y0, 0, tile.core.y1, self._tiling.shape[1]).intersect(box)
            own = self._row(tile.row)[band.shift(-tile.core.y0, 0).slices]
            classes[band.shift(-box.y0, -box.x0).slices] = own
        return classes

    def _tiles(self, box: Box) -> list[Tile]:
        first = self._tiling[self._tiling.owner(box.y0, box.x0)]
        last = self._tiling[self._tiling.owner(box.y1 - 1, box.x1 - 1)]
        return [
            self._tiling[row * self._tiling.columns + column]
            for row in range(first.row, last.row + 1)
            for column in range(first.column, last.column + 1)
        ]


def _faces(row: Arrays) -> list[Faces]:
    """Of each tile of a row, as `ClassParts.arrays` joined them."""
    columns, tiles = np.cumsum(row["widths"])[:-1], len(row["tile"])
    ends: dict[str, Any] = {"top": columns, "bottom": columns, "left": tiles, "right": tiles}
    split = {name: np.split(row[name], ends[name]) for name in _RIMS}
    class_ids = np.split(row["class_ids"], np.cumsum(row["n_regions"])[:-1])
    return [
        Faces(tile, class_ids[i], *(split[name][i] for name in _RIMS))
        for i, tile in enumerate(row["tile"].tolist())
    ]


def _joined(
    regions: Int64s, areas: Int64s, sums: npt.NDArray[np.float64], first: Int64s, boxes: Int64s
) -> tuple[npt.NDArray[Any], ...]:
    """What the parts of each region come to; `regions` says of which one each part is."""
    count = int(regions.max(initial=-1)) + 1
    most = np.iinfo(np.int64).max
    all_first, all_boxes = np.full(count, most), np.full((count, 4), most)
    np.minimum.at(all_first, regions, first)
    all_boxes[:, 2:] = 0
    np.minimum.at(all_boxes[:, :2], regions, boxes[:, :2])
    np.maximum.at(all_boxes[:, 2:], regions, boxes[:, 2:])
    all_areas = np.zeros(count, np.int64)
    np.add.at(all_areas, regions, areas)
    return all_areas, np.bincount(regions, sums, count), all_first, all_boxes


def _regions(classes: Classes) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """(h, w) the connected regions 1..R of each class, and (R,) their classes."""
    labels = np.zeros(classes.shape, np.int32)
    class_ids: list[npt.NDArray[np.int32]] = []
    count = 0
    for class_id in np.unique(classes[classes > 0]):
        inside = classes == class_id
        regions, found = ndimage.label(inside)
        labels[inside] = regions[inside] + count
        count += found
        class_ids.append(np.full(found, class_id, np.int32))
    return labels, stacked(class_ids, np.int32)


@compiled
def _add_up(
    labels: npt.NDArray[np.int32],
    sure: npt.NDArray[np.float32],
    place: Int64s,
    areas: Int64s,
    sums: npt.NDArray[np.float64],
    first: Int64s,
    boxes: Int64s,
) -> None:
    """Area, confidence, first pixel and box of each region; written.

    Args:
        place: the row and column of the first pixel in the image, and the image's width.
    """
    for y in range(labels.shape[0]):
        for x in range(labels.shape[1]):
            i = labels[y, x] - 1
            if i < 0:
                continue
            row, column = place[0] + y, place[1] + x
            if areas[i] == 0:
                first[i] = row * place[2] + column
                boxes[i, 0], boxes[i, 1] = row, column
            areas[i] += 1
            sums[i] += sure[y, x]
            boxes[i, 1] = min(boxes[i, 1], column)
            boxes[i, 2] = row + 1
            boxes[i, 3] = max(boxes[i, 3], column + 1)
