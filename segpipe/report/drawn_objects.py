"""The objects of an image as pictures need them: a million of them take less than 100 MB."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from segpipe.geometry import Box
from segpipe.report.display import neighbour_colours
from segpipe.schema import OBJECTS

Row = Mapping[str, Any]

_ENDS = ("bbox_y0", "bbox_x0", "bbox_y1", "bbox_x1")
_CENTRES = ("centroid_y", "centroid_x")
_TYPES = {
    column.name: column.type
    for column in OBJECTS
    if column.name in ("label", "class_id", "class_name", "score", *_ENDS, *_CENTRES)
}


@dataclass(frozen=True, slots=True, eq=False)
class DrawnObjects:
    """N objects.

    Attributes:
        labels: (N,) int64.
        centres: (N, 2) y, x.
        boxes: (N, 4) int64: y0, x0, y1, x1.
        class_ids: (N,) int64.
        names: of classes, each once.
        name_of: (N,) index of the name of its class.
        scores: (N,) float64, NaN where there is none.
    """

    labels: npt.NDArray[np.int64]
    centres: npt.NDArray[np.float64]
    boxes: npt.NDArray[np.int64]
    class_ids: npt.NDArray[np.int64]
    names: tuple[str, ...]
    name_of: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float64]

    @classmethod
    def of(cls, rows: pa.Table | Sequence[Row]) -> Self:
        """
        Args:
            rows: of the `objects` table.
        """
        if isinstance(rows, pa.Table):
            table = rows.select(list(_TYPES))
        else:
            table = pa.table({n: pa.array([row[n] for row in rows], t) for n, t in _TYPES.items()})
        names = table["class_name"].combine_chunks().dictionary_encode()
        return cls(
            _numbers(table["label"]),
            np.stack([table[name].to_numpy() for name in _CENTRES], axis=1).astype(np.float64),
            np.stack([_numbers(table[name]) for name in _ENDS], axis=1),
            _numbers(table["class_id"]),
            tuple(names.dictionary.to_pylist()),
            _numbers(names.indices),
            pc.cast(table["score"], pa.float64()).to_numpy(zero_copy_only=False),
        )

    def __len__(self) -> int:
        return len(self.labels)

    def seen(self, part: Box, level: int = 0) -> Self:
        """The same in a picture of a part of a level of their image."""
        corner, side = np.array([part.y0, part.x0]), 2**level
        boxes = np.concatenate(
            [self.boxes[:, :2] // side - corner, -(-self.boxes[:, 2:] // side) - corner], axis=1
        )
        return replace(self, boxes=boxes, centres=self.centres / side - corner)

    def among(self, labels: npt.NDArray[np.integer[Any]]) -> Self:
        """Those with one of these labels."""
        kept = np.isin(self.labels, labels)
        names = ("labels", "centres", "boxes", "class_ids", "name_of", "scores")
        return replace(self, **{name: getattr(self, name)[kept] for name in names})

    def colours(self, largest: int = 0) -> npt.NDArray[np.uint8]:
        """(L + 1, 3): a colour per label, of near objects different ones; others are white.

        Args:
            largest: a label up to which there are colours at least.
        """
        size = max(largest, int(self.labels.max(initial=0))) + 1
        colours = np.full((size, 3), 255, np.uint8)
        colours[self.labels] = neighbour_colours(self.centres)
        return colours

    def class_names(self) -> dict[int, str]:
        """Class id -> name, of the classes that occur; of two names the last one."""
        pairs = np.unique(np.stack([self.class_ids, self.name_of], axis=1), axis=0)
        return {int(number): self.names[name] for number, name in pairs}

    def counts(self) -> Counter[str]:
        """Objects of each class, by its name, in the order of their first ones."""
        counts = np.bincount(self.name_of, minlength=len(self.names)).tolist()
        return Counter({name: n for name, n in zip(self.names, counts, strict=True) if n})

    def name(self, index: int) -> str:
        """Of the class of an object."""
        return self.names[int(self.name_of[index])]

    def box(self, index: int) -> Box:
        return Box(*self.boxes[index].tolist())


def _numbers(column: pa.ChunkedArray | pa.Array) -> npt.NDArray[np.int64]:
    return np.asarray(column.to_numpy(zero_copy_only=False), np.int64)
