"""The objects of an image as evaluation compares them: true ones and predicted ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from segpipe.masks.of_object import object_mask
from segpipe.measure.boxes import match_boxes
from segpipe.measure.coco import CocoObject
from segpipe.measure.matching import Overlaps, match
from segpipe.records import CroppedMask
from segpipe.store.snapshot import Row, Snapshot

Labels = npt.NDArray[np.integer[Any]]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class TrueObjects:
    """What is true of one image.

    Attributes:
        labels: (H, W) objects 1..N, 0 elsewhere; where they overlap, the smaller one shows.
        class_of: (N + 1,) class index of each label; entry 0 is -1.
        objects: with their whole masks: those of labels 1..N in this order, then crowds.
        void: (H, W) pixels of which the truth says nothing.
        crowds: class index -> (H, W) pixels of objects that are not told apart.
        hidden: objects without a pixel in `labels`, since smaller ones cover them.
        other_classes: class name -> objects of classes that are not compared.
    """

    labels: Labels
    class_of: npt.NDArray[np.int64]
    objects: tuple[CocoObject, ...]
    void: Mask | None
    crowds: Mapping[int, Mask]
    hidden: int
    other_classes: Counter[str]


@dataclass(frozen=True, slots=True, eq=False)
class PredictedObjects:
    """What a model found in one image; attributes as in `TrueObjects`.

    Attributes:
        class_of: -1 also for objects of other classes; these are not in `objects`.
        scored: whether every object has a score.
    """

    labels: Labels
    class_of: npt.NDArray[np.int64]
    objects: tuple[CocoObject, ...]
    scored: bool
    other_classes: Counter[str]

    def labels_of(self, class_index: int) -> Labels:
        """(H, W) objects of one class."""
        return _of_class(self.labels, self.class_of, class_index)


def objects_of_labels(labels: Labels) -> tuple[CocoObject, ...]:
    """The objects of a label image (H, W), 1..N, all of class index 0."""
    found = []
    for label, region in enumerate(ndimage.find_objects(labels), start=1):
        if region is not None:
            y, x = region
            found.append(coco_object(0, CroppedMask(y.start, x.start, labels[region] == label)))
    return tuple(found)


def coco_object(class_index: int, mask: CroppedMask) -> CocoObject:
    """A mask that fills its crop to all sides."""
    height, width = mask.mask.shape
    area = float(np.count_nonzero(mask.mask))
    return CocoObject(class_index, (mask.x0, mask.y0, width, height), mask, area)


def unclassed(labels: Labels) -> TrueObjects:
    """The truth of a label image (H, W) of any labels, which tells no classes."""
    present = np.unique(labels[labels > 0])
    numbered = np.where(labels > 0, np.searchsorted(present, labels) + 1, 0)
    return TrueObjects(
        labels=numbered,
        class_of=np.append(-1, np.zeros(len(present), np.int64)),
        objects=objects_of_labels(numbered),
        void=None,
        crowds={},
        hidden=0,
        other_classes=Counter(),
    )


def predicted_objects(
    snapshot: Snapshot, row: Row, classes: Mapping[str, int] | None
) -> PredictedObjects:
    """The objects of an `ok` image row.

    Args:
        classes: index of each class that is compared; None takes all objects as one class.
    """
    labels = snapshot.label_image(row)
    rows = snapshot.objects_of(row)
    class_of = np.full(max([0, *(one["label"] for one in rows)]) + 1, -1, np.int64)
    objects = []
    others: Counter[str] = Counter()
    for one in rows:
        index = 0 if classes is None else classes.get(one["class_name"])
        if index is None:
            others[one["class_name"]] += 1
            continue
        class_of[one["label"]] = index
        objects.append(_predicted(one, index, labels))
    scored = all(one["score"] is not None for one in rows)
    return PredictedObjects(labels, class_of, tuple(objects), scored, others)


def _predicted(one: Row, class_index: int, labels: Labels) -> CocoObject:
    mask = object_mask(one, labels)
    score = 1.0 if one["score"] is None else float(one["score"])
    height, width = mask.mask.shape
    box = mask.x0, mask.y0, width, height
    return CocoObject(class_index, box, mask, float(one["area"]), score)


@dataclass(frozen=True, slots=True, eq=False)
class ClassOverlaps:
    """What overlaps among the objects of one class; the labels are those of its objects."""

    overlaps: Overlaps
    truth_labels: npt.NDArray[np.integer[Any]]
    predicted_labels: npt.NDArray[np.integer[Any]]


def compare(
    truth: TrueObjects, predicted: PredictedObjects, boxes: bool
) -> dict[int, ClassOverlaps]:
    """Class by class, of the classes that occur.

    Args:
        boxes: whole boxes are compared, and not the label images.
    """
    known = np.concatenate([truth.class_of, predicted.class_of])
    compare_class = _compare_boxes if boxes else _compare_masks
    return {
        c: compare_class(truth, predicted, c) for c in sorted({int(c) for c in known if c >= 0})
    }


def _compare_masks(truth: TrueObjects, predicted: PredictedObjects, c: int) -> ClassOverlaps:
    true, found = _of_class(truth.labels, truth.class_of, c), predicted.labels_of(c)
    overlaps = match(true, found, truth.void, truth.crowds.get(c))
    return ClassOverlaps(overlaps, np.unique(true[true > 0]), np.unique(found[found > 0]))


def _compare_boxes(truth: TrueObjects, predicted: PredictedObjects, c: int) -> ClassOverlaps:
    """Pixels, for Dice, are those of true masks and of filled boxes."""
    real = [one for one in truth.objects if one.class_index == c]
    overlaps = match_boxes(
        _boxes([one for one in real if not one.crowd]),
        _boxes([one for one in predicted.objects if one.class_index == c]),
        _of_class(truth.labels, truth.class_of, c) > 0,
        predicted.labels_of(c) > 0,
        _boxes([one for one in real if one.crowd]),
    )
    labels = (np.flatnonzero(one.class_of == c) for one in (truth, predicted))
    return ClassOverlaps(overlaps, *labels)


def _of_class(labels: Labels, class_of: npt.NDArray[np.int64], class_index: int) -> Labels:
    return np.where(class_of[labels] == class_index, labels, 0)


def _boxes(objects: list[CocoObject]) -> npt.NDArray[np.float64]:
    """(N, 4) x0, y0, x1, y1."""
    corners = [(x, y, x + width, y + height) for x, y, width, height in (o.box for o in objects)]
    return np.array(corners, np.float64).reshape(-1, 4)
