"""What a way came to: against the truth, against the image seen whole, and at its seams."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from segpipe.geometry import Box
from segpipe.masks.paint import from_label_image, unpaint
from segpipe.measure.coco import CocoImage, CocoObject, rank_coco
from segpipe.records import CroppedMask, Instances

SHARE = 0.5
"""Of the smaller of two objects: with more in common, one of them is there twice."""


@dataclass(frozen=True)
class Score:
    """Attributes:
    ap50, ap: COCO's, of masks.
    agreement: true objects found at IoU 0.5, of all that are true or were found.
    objects: that were found.
    duplicates: pairs of them that share more than `SHARE` of the smaller one.
    on_seams: of these, pairs that meet where slices overlap.
    seam: length of all seams, pixels.
    split: true objects of which several objects are parts, and were not when seen whole.
    lost, gained: true objects that were found when seen whole and are not, and the reverse.
    """

    ap50: float
    ap: float
    agreement: float
    objects: int
    duplicates: int
    on_seams: int
    seam: int
    split: int
    lost: int
    gained: int


def score(found: Instances, whole: Instances, truth: np.ndarray, slices: Sequence[Box]) -> Score:
    """
    Args:
        whole: what is found in the image seen whole.
        truth: (H, W) label image.
        slices: that were looked at.
    """
    true = unpaint(from_label_image(truth.astype(np.uint32))).masks
    ranking = rank_coco([CocoImage(_coco(true), _coco(found.masks, found.scores), "segm")], 1)
    precision = ranking.average_precision(np.ones((1, 1)))[0, 0]
    (ranked,) = ranking.rankings["all"]
    right, wrong = int(ranked.right[0].sum()), int(ranked.wrong[0].sum())
    seen, seen_whole = _Truth(true, found), _Truth(true, whole)
    pairs = duplicates(found.masks)
    several = _seen_by_several(slices, truth.shape)
    return Score(
        ap50=float(precision[0]),
        ap=float(precision.mean()),
        agreement=right / (len(true) + wrong),
        objects=len(found.masks),
        duplicates=len(pairs),
        on_seams=sum(bool(several[place.slices].any()) for place in pairs),
        seam=seam_length(slices),
        split=len(seen.split - seen_whole.split),
        lost=len(seen_whole.found - seen.found),
        gained=len(seen.found - seen_whole.found),
    )


def duplicates(masks: Sequence[CroppedMask]) -> list[Box]:
    """Where the pairs of objects meet that share more than `SHARE` of the smaller one."""
    areas = [np.count_nonzero(one.mask) for one in masks]
    order = sorted(range(len(masks)), key=lambda number: masks[number].y0)
    found = []
    for place, first in enumerate(order):
        for second in order[place + 1 :]:
            if masks[second].y0 >= _box(masks[first]).y1:
                break
            common = _common(masks[first], masks[second])
            if common > SHARE * min(areas[first], areas[second]):
                found.append(_box(masks[first]).intersect(_box(masks[second])))
    return found


def seam_length(slices: Sequence[Box]) -> int:
    """Of the lines along which slices that lie in a grid meet, pixels."""
    rows, columns = ({one.y0 for one in slices}, {one.x0 for one in slices})
    height, width = max(one.y1 for one in slices), max(one.x1 for one in slices)
    return (len(rows) - 1) * width + (len(columns) - 1) * height


class _Truth:
    """What became of the true objects.

    Attributes:
        found: those that an object matches with IoU >= 0.5; with so much, hardly two do.
        split: those that hold most of each of several objects.
    """

    def __init__(self, true: Sequence[CroppedMask], objects: Instances) -> None:
        self.found: set[int] = set()
        self.split: set[int] = set()
        areas = [np.count_nonzero(one.mask) for one in objects.masks]
        for number, one in enumerate(true):
            area, parts = np.count_nonzero(one.mask), 0
            for other, other_area in zip(objects.masks, areas, strict=True):
                common = _common(one, other)
                if common >= SHARE * (area + other_area - common):
                    self.found.add(number)
                parts += common > SHARE * other_area
            if parts > 1:
                self.split.add(number)


def _box(one: CroppedMask) -> Box:
    height, width = one.mask.shape
    return Box(one.y0, one.x0, one.y0 + height, one.x0 + width)


def _common(one: CroppedMask, other: CroppedMask) -> int:
    both = _box(one).intersect(_box(other))
    if both.empty:
        return 0
    first, second = (mask.mask[both.shift(-mask.y0, -mask.x0).slices] for mask in (one, other))
    return int(np.count_nonzero(first & second))


def _seen_by_several(slices: Sequence[Box], shape: tuple[int, ...]) -> np.ndarray:
    times = np.zeros(shape, np.uint8)
    for one in slices:
        times[one.slices] += 1
    return times > 1


def _coco(masks: Sequence[CroppedMask], scores: Sequence[float] | None = None) -> list[CocoObject]:
    scores = [1.0] * len(masks) if scores is None else [float(score) for score in scores]
    found = []
    for one, its_score in zip(masks, scores, strict=True):
        height, width = one.mask.shape
        box = (one.x0, one.y0, width, height)
        found.append(CocoObject(0, box, one, float(np.count_nonzero(one.mask)), its_score))
    return found
