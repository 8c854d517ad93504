"""Average precision as COCO computes it (Lin et al., ECCV 2014), for boxes and for masks.

Predictions are taken by descending score; each takes the best free truth of its class with
IoU >= threshold. AP is the area under the precision-recall curve, read at 101 recalls, and mAP its
mean over IoU 0.5 to 0.95 and over the classes that have a truth. A crowd (`iscrowd`) is neither to
be found nor wrong to be found: predictions in it, by the share of their own area, do not count.

This is computed here and not by pycocotools, with which it agrees, for two reasons: an image of
microscopy has thousands of objects, of which only those that touch need to be looked at; and a
bootstrap needs the curve of images that are drawn several times. COCO looks at the best 100
predictions of a class in an image; here all of them count.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from segpipe.measure.evaluation import THRESHOLDS
from segpipe.records import CroppedMask

AREAS = {
    "all": (0.0, 1e10),
    "small": (0.0, 32.0**2),
    "medium": (32.0**2, 96.0**2),
    "large": (96.0**2, 1e10),
}
"""Ranges of object area in square pixels, as in COCO."""

_RECALLS = np.linspace(0, 1, 101)
_MAX_ELEMENTS = 4_000_000
"""Of one array, while many samples are computed at once."""

Kind = Literal["bbox", "segm"]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class CocoObject:
    """One true or predicted object.

    Attributes:
        class_index: from 0.
        box: x, y, width, height in pixels; x0, y0 is the outer corner of the first pixel.
        mask: its pixels.
        area: of the object in square pixels.
        score: of a prediction.
        crowd: a region of objects that the truth does not tell apart.
    """

    class_index: int
    box: tuple[float, float, float, float]
    mask: CroppedMask
    area: float
    score: float = 1.0
    crowd: bool = False


IoU = Callable[[CocoObject, CocoObject], float]
"""Of a prediction and a truth that touch; with a crowd, the share of the prediction's own area."""


@dataclass(frozen=True, slots=True, eq=False)
class Ranking:
    """The predictions of one class and range of areas, best score first.

    Attributes:
        image: (D,) index of the image.
        right, wrong: (T, D) at each threshold; neither, where the prediction is not counted.
        n_truth: (N,) objects to be found in each image.
    """

    image: npt.NDArray[np.int64]
    right: Bools
    wrong: Bools
    n_truth: npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class CocoMatches:
    """What was matched, and the numbers that follow from it.

    Attributes:
        rankings: area -> one `Ranking` per class.
    """

    rankings: dict[str, tuple[Ranking, ...]]

    def average_precision(self, weights: Floats, area: str = "all") -> Floats:
        """AP by class and threshold.

        Args:
            weights: (R, N) how often each image is in each of R samples.

        Returns:
            (R, C, T); NaN for a class without a truth in the sample.
        """
        columns = [_average_precision(ranking, weights) for ranking in self.rankings[area]]
        return np.stack(columns, axis=1)


def rank_coco(images: Sequence[CocoImage], n_classes: int) -> CocoMatches:
    """Match the predictions of each image with its truth."""
    of_class: list[list[tuple[int, _Pairs]]] = [[] for _ in range(n_classes)]
    for number, image in enumerate(images):
        for c, pairs in image.by_class.items():
            of_class[c].append((number, pairs))
    return CocoMatches(
        {
            area: tuple(_rank(pairs, limits, len(images)) for pairs in of_class)
            for area, limits in AREAS.items()
        }
    )


class CocoImage:
    """The objects of one image: their scores, areas and overlaps, without their masks."""

    def __init__(
        self, truth: Iterable[CocoObject], predicted: Iterable[CocoObject], kind: Kind
    ) -> None:
        """Compare masks or boxes."""
        objects: dict[int, tuple[list[CocoObject], list[CocoObject]]]
        objects = defaultdict(lambda: ([], []))
        for one in truth:
            objects[one.class_index][0].append(one)
        for one in predicted:
            objects[one.class_index][1].append(one)
        self.by_class = {c: _Pairs(*own, kind) for c, own in objects.items()}


class _Pairs:
    """True and predicted objects of one class in one image, and which of them overlap."""

    def __init__(
        self, truth: Sequence[CocoObject], found: Sequence[CocoObject], kind: Kind
    ) -> None:
        found = sorted(found, key=lambda one: -one.score)  # stable, as COCO's
        self.scores = np.array([one.score for one in found])
        self.crowd = np.array([one.crowd for one in truth], np.bool_)
        self.truth_areas = np.array([one.area for one in truth])
        # COCO takes the area of a true object from its mask, that of a prediction as compared.
        by_box = kind == "bbox"
        self.areas = np.array([one.box[2] * one.box[3] if by_box else one.area for one in found])
        pairs = list(_overlapping(found, truth, _box_iou if by_box else _mask_iou, by_box))
        rivals_of = Counter(true for _, true, _ in pairs)
        choices_of = Counter(prediction for prediction, _, _ in pairs)
        # Most objects have one partner that nobody else wants.
        self.simple = [p for p in pairs if choices_of[p[0]] == rivals_of[p[1]] == 1]
        self.candidates: dict[int, list[tuple[int, float]]] = defaultdict(list)
        for prediction, true, iou in pairs:
            if not choices_of[prediction] == rivals_of[true] == 1:
                self.candidates[prediction].append((true, iou))

    def match(self, limits: tuple[float, float]) -> tuple[Bools, Bools, int]:
        """What is right and what is wrong, where only objects of some areas are to be found.

        Returns:
            (T, D) right and wrong predictions, and how many objects there are to be found.
        """
        low, high = limits
        ignored = self.crowd | (self.truth_areas < low) | (self.truth_areas > high)
        right = np.zeros((len(THRESHOLDS), len(self.scores)), np.bool_)
        wrong = np.tile((self.areas >= low) & (self.areas <= high), (len(THRESHOLDS), 1))
        if self.simple:
            found, true, iou = map(np.array, zip(*self.simple, strict=True))
            matched = iou >= np.array(THRESHOLDS)[:, None]
            right[:, found] = matched & ~ignored[true]
            wrong[:, found] &= ~matched
        # What is to be found comes first, as a prediction takes it before what is ignored.
        candidates = {
            prediction: sorted(own, key=lambda one: bool(ignored[one[0]]))
            for prediction, own in self.candidates.items()
        }
        for t, threshold in enumerate(THRESHOLDS):
            taken: set[int] = set()
            for prediction, own in candidates.items():
                best = self._best(own, threshold, taken, ignored)
                if best is not None:
                    taken.add(best)
                    right[t, prediction] = not ignored[best]
                    wrong[t, prediction] = False
        return right, wrong, int(np.count_nonzero(~ignored))

    def _best(
        self,
        candidates: list[tuple[int, float]],
        threshold: float,
        taken: set[int],
        ignored: Bools,
    ) -> int | None:
        """The truth that a prediction takes; of equal ones the last. A crowd is never used up."""
        best, best_iou = None, threshold
        for true, iou in candidates:
            if true in taken and not self.crowd[true]:
                continue
            if best is not None and ignored[true] and not ignored[best]:
                break
            if iou >= best_iou:
                best, best_iou = true, iou
        return best


def _overlapping(
    predicted: Sequence[CocoObject], truth: Sequence[CocoObject], iou_of: IoU, by_box: bool
) -> Iterator[tuple[int, int, float]]:
    """(prediction, truth, IoU) of the pairs that may match, in this order."""
    if not truth or not predicted:
        return
    boxes, others = (
        np.array([one.box if by_box else _extent(one.mask) for one in objects], np.float64)
        for objects in (predicted, truth)
    )
    for prediction, near in enumerate(_touching(boxes, others)):
        for true in near:
            iou = iou_of(predicted[prediction], truth[true])
            if iou >= THRESHOLDS[0]:
                yield prediction, true, iou


def _box_iou(found: CocoObject, true: CocoObject) -> float:
    (x, y, width, height), (x0, y0, w, h) = found.box, true.box
    common = (min(x + width, x0 + w) - max(x, x0)) * (min(y + height, y0 + h) - max(y, y0))
    return common / (width * height + (0.0 if true.crowd else w * h - common))


def _mask_iou(found: CocoObject, true: CocoObject) -> float:
    one, other = found.mask, true.mask
    y0, x0 = max(one.y0, other.y0), max(one.x0, other.x0)
    inside = one.mask[y0 - one.y0 :, x0 - one.x0 :]
    beside = other.mask[y0 - other.y0 :, x0 - other.x0 :]
    height, width = np.minimum(inside.shape, beside.shape)
    common = np.count_nonzero(inside[:height, :width] & beside[:height, :width])
    rest = 0 if true.crowd else np.count_nonzero(other.mask) - common
    return common / (np.count_nonzero(one.mask) + rest)


def _extent(crop: CroppedMask) -> tuple[int, int, int, int]:
    """x, y, width, height of a crop."""
    height, width = crop.mask.shape
    return crop.x0, crop.y0, width, height


def _touching(boxes: Floats, others: Floats) -> Iterator[list[int]]:
    """Of each box (x, y, width, height), the others that share some area with it, ascending."""
    order = np.argsort(others[:, 0], kind="stable")
    lefts, widest = others[order, 0], others[:, 2].max()
    for x, y, width, height in boxes:
        first, end = np.searchsorted(lefts, (x - widest, x + width))
        near = order[first:end]
        x0, y0, w, h = others[near].T
        shared = (x0 + w > x) & (y0 < y + height) & (y0 + h > y)
        yield np.sort(near[shared]).tolist()


def _rank(
    images: Sequence[tuple[int, _Pairs]], limits: tuple[float, float], n_images: int
) -> Ranking:
    """All predictions of the images by descending score; equal ones in the order of the images."""
    n_truth = np.zeros(n_images, np.int64)
    none = np.zeros((len(THRESHOLDS), 0), np.bool_)
    right, wrong, scores, number = [none], [none], [np.empty(0)], [np.empty(0, np.int64)]
    for place, one in images:
        found = one.match(limits)
        right.append(found[0])
        wrong.append(found[1])
        n_truth[place] = found[2]
        scores.append(one.scores)
        number.append(np.full(len(one.scores), place))
    order = np.argsort(-np.concatenate(scores), kind="stable")
    return Ranking(
        image=np.concatenate(number)[order],
        right=np.concatenate(right, axis=1)[:, order],
        wrong=np.concatenate(wrong, axis=1)[:, order],
        n_truth=n_truth,
    )


def _average_precision(ranking: Ranking, weights: Floats) -> Floats:
    """(R, T) area under the weighted precision-recall curves; NaN without a truth."""
    found = np.full((len(weights), len(THRESHOLDS)), np.nan)
    n_truth = weights @ ranking.n_truth
    drawn = np.flatnonzero(n_truth)
    used = weights[:, ranking.image].any(axis=0)
    step = max(1, _MAX_ELEMENTS // max(1, len(THRESHOLDS) * int(used.sum())))
    for start in range(0, len(drawn), step):
        rows = drawn[start : start + step]
        times = weights[np.ix_(rows, ranking.image[used])][:, None, :]
        right = np.cumsum(times * ranking.right[:, used], axis=2)
        wrong = np.cumsum(times * ranking.wrong[:, used], axis=2)
        found[rows] = _area_under(right, wrong, n_truth[rows, None, None])
    return found


def _area_under(right: Floats, wrong: Floats, n_truth: Floats) -> Floats:
    """(R, T) mean over the 101 recalls of the best precision at that recall or above.

    A recall that is not reached has precision 0. Instead of looking up each recall, those are
    counted that each prediction is the first to reach.
    """
    if not right.shape[2]:
        return np.zeros(right.shape[:2])
    precision = np.divide(right, right + wrong, out=np.zeros_like(right), where=right > 0)
    best = np.maximum.accumulate(precision[:, :, ::-1], axis=2)[:, :, ::-1]
    reached = np.searchsorted(_RECALLS, right / n_truth, side="right")
    first = np.diff(reached, axis=2, prepend=0)
    area: Floats = (best * first).sum(axis=2) / len(_RECALLS)
    return area
