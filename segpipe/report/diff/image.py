"""What changed between two results of one image: objects that are the same, gained, lost, changed.

An object of the one result and an object of the other are the same one where the IoU of their
whole masks is at least a threshold; each has at most one partner, and the pair with the greatest
IoU is taken first. Above 0.5, and where objects do not overlap, no other choice is possible.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from segpipe.errors import SpecError
from segpipe.geometry import Box
from segpipe.measure.matching import Matching
from segpipe.store.object_masks import mask_of
from segpipe.store.pyramids import blocks
from segpipe.store.snapshot import Row, Snapshot

SAME_IOU = 0.5
"""At least, for two objects to be one."""

CHANGED_IOU = 0.8
"""Below, the mask of an object has changed."""

Labels = npt.NDArray[np.integer[Any]]
Pair = tuple[int, int, float]
"""Label before, label after, IoU of the two masks."""


@dataclass(frozen=True, slots=True)
class ImageDiff:
    """Two results of one image, object by object.

    Attributes:
        pairs: objects that are in both, by label before.
        lost: labels before, of objects without a partner.
        gained: labels after, of objects without a partner.
        changed: labels after, of those pairs that differ in class, or in their masks by more than
            was allowed.
    """

    pairs: tuple[Pair, ...]
    lost: tuple[int, ...]
    gained: tuple[int, ...]
    changed: tuple[int, ...]


class _Objects:
    """The objects of one result, and their masks as far as they are asked for.

    Attributes:
        boxes: (N, 4) y0, x0, y1, x1.
        numbers: (N,) labels, ascending.
        areas, class_names: of each.
        hiding: (N,) whether an object shares pixels with another of its own result.
    """

    def __init__(self, snapshot: Snapshot, image: Row) -> None:
        self._snapshot, self._image = snapshot, image
        self._table = snapshot.object_table(image)
        names = ("bbox_y0", "bbox_x0", "bbox_y1", "bbox_x1")
        columns = [self._table[name].to_numpy().astype(np.int64) for name in names]
        self.boxes = np.stack(columns, axis=1)
        self.numbers = self._table["label"].to_numpy().astype(np.int64)
        self.areas = self._table["area"].to_numpy().astype(np.int64)
        self.class_names: list[str] = self._table["class_name"].to_pylist()
        self.hiding = self._table["rle"].is_valid().to_numpy()
        self._masks: dict[int, npt.NDArray[np.bool_]] = {}

    def labels(self, part: Box) -> Labels:
        """(h, w) of a part of the image."""
        return self._snapshot.label_image(self._image, part)

    def mask(self, index: int) -> npt.NDArray[np.bool_]:
        """(h, w) in the object's box, hidden parts included."""
        if index not in self._masks:
            (row,) = self._table.slice(index, 1).to_pylist()
            self._masks[index] = mask_of(self._snapshot, self._image, row).mask
        return self._masks[index]


def diff_image(
    before: Snapshot,
    after: Snapshot,
    row_before: Row,
    row_after: Row,
    iou: float = SAME_IOU,
    changed_iou: float = CHANGED_IOU,
    classes: Collection[str] | None = None,
) -> ImageDiff:
    """Compare two results of one image.

    Args:
        before, after: where the results are.
        row_before, row_after: `ok` rows of `images`, of the same height and width.
        iou: at least, for two objects to be one; above 0, at most 1.
        changed_iou: below, the mask of an object has changed.
        classes: names that mean the same in both; None for all. A class that only one of two
            models knows tells nothing.

    Raises:
        SpecError: the image has another size, or one of its results is a failure.
    """
    shapes = [(row["height"], row["width"]) for row in (row_before, row_after)]
    if shapes[0] != shapes[1]:
        raise SpecError(
            f"{row_after['path']}: {shapes[0]} pixels before, {shapes[1]} after; results of images "
            "of different sizes cannot be compared"
        )
    old, new = _Objects(before, row_before), _Objects(after, row_after)
    indices = one_to_one(*_overlaps(old, new, shapes[0]), iou)
    pairs = [(int(old.numbers[i]), int(new.numbers[j]), value) for i, j, value in indices]
    partnered = [i for i, _, _ in indices], [j for _, j, _ in indices]
    return ImageDiff(
        pairs=tuple(pairs),
        lost=tuple(np.delete(old.numbers, partnered[0]).tolist()),
        gained=tuple(np.delete(new.numbers, partnered[1]).tolist()),
        changed=tuple(
            int(new.numbers[j])
            for i, j, value in indices
            if value < changed_iou or _other_class(old.class_names[i], new.class_names[j], classes)
        ),
    )


def _other_class(before: str, after: str, classes: Collection[str] | None) -> bool:
    names = {before, after}
    return len(names) == 2 and (classes is None or names <= set(classes))


def one_to_one(
    i: npt.NDArray[np.int64],
    j: npt.NDArray[np.int64],
    iou: npt.NDArray[np.float64],
    threshold: float,
) -> list[tuple[int, int, float]]:
    """Pairs of a sparse table (K,), of at least `threshold`, the greatest first; ascending by i."""
    enough = iou >= threshold
    i, j, iou = i[enough], j[enough], iou[enough]
    taken_i: set[int] = set()
    taken_j: set[int] = set()
    chosen = []
    for k in np.lexsort((j, i, -iou)):
        one, other = int(i[k]), int(j[k])
        if one not in taken_i and other not in taken_j:
            taken_i.add(one)
            taken_j.add(other)
            chosen.append((one, other, float(iou[k])))
    return sorted(chosen)


def _overlaps(
    old: _Objects, new: _Objects, shape: tuple[int, int]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Indices of objects that share pixels, and IoU of whole masks.

    Objects that hide no other are compared as the label images show them, all at once; the others
    mask by mask, where their boxes meet.
    """
    index_old, index_new = _index(old), _index(new)
    matching = Matching()
    for block in blocks(shape):
        matching.add(old.labels(block), new.labels(block))
    visible = matching.overlaps()
    present_old, present_new = matching.labels()
    i = index_old[present_old][visible.truth]
    j = index_new[present_new][visible.predicted]
    plain = ~(old.hiding[i] | new.hiding[j])
    whole = list(_whole_overlaps(old, new))
    more_i, more_j = (np.array([pair[k] for pair in whole], np.int64) for k in (0, 1))
    more = np.array([pair[2] for pair in whole], np.float64)
    return (
        np.concatenate([i[plain], more_i]),
        np.concatenate([j[plain], more_j]),
        np.concatenate([visible.iou[plain], more]),
    )


def _index(objects: _Objects) -> npt.NDArray[np.int64]:
    """Label -> index of its row."""
    index = np.full(int(objects.numbers.max(initial=0)) + 1, -1, np.int64)
    index[objects.numbers] = np.arange(len(objects.numbers))
    return index


def _whole_overlaps(old: _Objects, new: _Objects) -> Iterator[Pair]:
    boxes_old, boxes_new = old.boxes, new.boxes
    every, hiding = np.arange(len(boxes_new)), np.flatnonzero(new.hiding)
    for i in range(len(boxes_old)) if len(hiding) else np.flatnonzero(old.hiding).tolist():
        candidates = every if old.hiding[i] else hiding
        lower = np.maximum(boxes_old[i, :2], boxes_new[candidates, :2])
        upper = np.minimum(boxes_old[i, 2:], boxes_new[candidates, 2:])
        meeting = (upper > lower).all(axis=1)
        for j, low, high in zip(candidates[meeting], lower[meeting], upper[meeting], strict=True):
            parts = [
                objects.mask(k)[
                    low[0] - box[0] : high[0] - box[0], low[1] - box[1] : high[1] - box[1]
                ]
                for objects, k, box in ((old, i, boxes_old[i]), (new, int(j), boxes_new[j]))
            ]
            common = int(np.count_nonzero(parts[0] & parts[1]))
            if common:
                union = int(old.areas[i] + new.areas[int(j)]) - common
                yield i, int(j), common / union
