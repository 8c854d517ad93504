"""The numbers of a set of images, with intervals: of all images, of some, or of resampled ones.

Everything is computed from counts per image and a weight per image: 1 for each image gives the
numbers themselves, a 0 leaves an image out, and resampled weights give the bootstrap. What the
numbers mean is said in `evaluation`, `semantic` and `coco`; tests hold the two forms together.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from segpipe.measure.bootstrap import Statistic, bootstrap_interval
from segpipe.measure.coco import AREAS, CocoMatches
from segpipe.measure.evaluation import THRESHOLDS, Agreement
from segpipe.measure.semantic import SemanticAgreement, ratio

Floats = npt.NDArray[np.float64]

Key = tuple[str, int | None]
"""A number's name, and the index of the class it is of; None for all classes."""

_PERCENT = tuple(round(100 * threshold) for threshold in THRESHOLDS)


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number, None where it is undefined, and the interval that probably holds it, if known."""

    value: float | None
    low: float | None = None
    high: float | None = None

    def to_dict(self) -> dict[str, float | None]:
        return {"value": self.value, "low": self.low, "high": self.high}


@dataclass(frozen=True, slots=True)
class Scores:
    """Named numbers of weighted images.

    Attributes:
        keys: K of them.
        values: their `Statistic`; NaN where a number is undefined.
    """

    keys: tuple[Key, ...]
    values: Statistic


def estimate(
    scores: Scores,
    members: npt.NDArray[np.bool_],
    units: Sequence[Hashable],
    seed: int,
    resamples: int,
    level: float,
) -> dict[Key, Estimate]:
    """The numbers of some of the images.

    Args:
        members: (N,) which images.
        units: of all N images; those of members are resampled.
        resamples: 0 for numbers without intervals.
    """
    values = scores.values(members[None].astype(np.float64))[0]
    ends = np.full((len(values), 2), np.nan)
    if resamples:

        def of_members(weights: Floats) -> Floats:
            spread = np.zeros((len(weights), len(members)))
            spread[:, members] = weights
            return scores.values(spread)

        own = [unit for unit, member in zip(units, members, strict=True) if member]
        found = bootstrap_interval(of_members, own, seed, resamples, level)
        ends = ends if found is None else found
    return {
        key: Estimate(_number(value), _number(low), _number(high))
        for key, value, (low, high) in zip(scores.keys, values, ends, strict=True)
    }


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def instance_scores(images: Sequence[Mapping[int, Agreement]], n_classes: int) -> Scores:
    """AP, PQ, Dice and counts of instances.

    AP and Dice of several classes are pooled over them: an object weighs the same whatever its
    class. PQ, SQ and RQ are means over the classes that are true or predicted. A number of one
    class is undefined where the class is neither.

    Args:
        images: of each image, the agreement of each class index that occurs in it.
    """
    table = _InstanceCounts(images, n_classes)
    names = [
        *(f"ap{percent}" for percent in _PERCENT), "ap", "pq", "sq", "rq", "dice",
    ]  # fmt: skip
    by_image = [
        *(f"mean_ap{percent}" for percent in _PERCENT),
        "mean_ap", "mean_dice", "mean_count_error", "mean_absolute_count_error",
    ]  # fmt: skip
    keys: list[Key] = [(name, None) for name in (*names, *by_image)]
    keys += [(name, c) for c in range(n_classes) for name in names]

    def values(weights: Floats) -> Floats:
        pooled, classes = table.pooled(weights)
        return np.concatenate([pooled, table.mean(weights), classes], axis=1)

    return Scores(tuple(keys), values)


class _InstanceCounts:
    """Counts by image and class, as arrays."""

    def __init__(self, images: Sequence[Mapping[int, Agreement]], n_classes: int) -> None:
        # The last axis: TP at each threshold, truths, predictions, segments and their IoU, pixels.
        self._counts = np.zeros((len(images), n_classes, len(THRESHOLDS) + 7))
        for i, image in enumerate(images):
            for c, one in image.items():
                self._counts[i, c] = (
                    *one.true_positives, one.n_truth, one.n_predicted, one.n_segments,
                    one.segment_iou, one.truth_pixels, one.predicted_pixels, one.common_pixels,
                )  # fmt: skip
        precisions, _, dice = _ratios(self._counts.sum(axis=1))
        errors = self._counts[:, :, len(THRESHOLDS) + 1] - self._counts[:, :, len(THRESHOLDS)]
        error = errors.sum(axis=1)
        self._of_images = np.column_stack(
            [precisions, precisions.mean(axis=1), dice, error, np.abs(error)]
        )

    def pooled(self, weights: Floats) -> tuple[Floats, Floats]:
        """(R, K) numbers of all classes, and (R, C * K) of each class."""
        n_classes, n_counts = self._counts.shape[1:]
        flat = weights @ self._counts.reshape(len(self._counts), -1)
        counts = flat.reshape(-1, n_classes, n_counts)
        classes = np.concatenate(_with_mean(_ratios(counts)), axis=2)
        used = counts[..., len(THRESHOLDS) : len(THRESHOLDS) + 2].sum(axis=2) > 0
        classes[~used] = np.nan
        precisions, _, dice = _ratios(counts.sum(axis=1))
        quality = slice(len(THRESHOLDS) + 1, len(THRESHOLDS) + 4)
        means = np.stack([_mean(classes[..., k], 1.0) for k in range(quality.start, quality.stop)])
        every = np.column_stack([precisions, precisions.mean(axis=1), means.T, dice])
        return every, classes.reshape(len(weights), -1)

    def mean(self, weights: Floats) -> Floats:
        """(R, K) means of the images' own numbers."""
        means: Floats = weights @ self._of_images / weights.sum(axis=1, keepdims=True)
        return means


def _ratios(counts: Floats) -> tuple[Floats, Floats, Floats]:
    """AP at each threshold (..., T); PQ, SQ and RQ (..., 3); Dice (...)."""
    n = len(THRESHOLDS)
    positives = counts[..., :n]
    truth, predicted, segments, iou, truth_pixels, predicted_pixels, common = np.moveaxis(
        counts[..., n:], -1, 0
    )
    precisions = ratio(positives, (truth + predicted)[..., None] - positives)
    rq = ratio(2 * segments, truth + predicted)
    sq = np.where(truth + predicted > 0, iou / np.maximum(segments, 1), 1.0)
    quality = np.stack([rq * sq, sq, rq], axis=-1)
    return precisions, quality, ratio(2 * common, truth_pixels + predicted_pixels)


def _with_mean(ratios: tuple[Floats, Floats, Floats]) -> tuple[Floats, ...]:
    precisions, quality, dice = ratios
    return precisions, precisions.mean(axis=-1, keepdims=True), quality, dice[..., None]


def semantic_scores(images: Sequence[SemanticAgreement]) -> Scores:
    """Dice and IoU, means over the classes but the background; all four numbers of each class.

    `mean_dice` and `mean_iou` are the means of the images' own; of a class, over the images in
    which it is true or predicted. All numbers of a class are undefined where it is neither.
    """
    confusion = np.stack([image.confusion for image in images])
    n_classes = confusion.shape[1]
    names = ("dice", "iou", "precision", "recall", "mean_dice", "mean_iou")
    keys: list[Key] = [(name, None) for name in ("dice", "iou", "mean_dice", "mean_iou")]
    keys += [(name, c) for c in range(n_classes) for name in names]
    single = SemanticAgreement("", confusion)
    of_images = np.column_stack(
        [single.foreground_mean(single.dice), single.foreground_mean(single.iou)]
    )
    used = (single.truth_pixels + single.predicted_pixels > 0).astype(np.float64)

    def values(weights: Floats) -> Floats:
        drawn = np.tensordot(weights.astype(np.int64), confusion, axes=1)
        pooled = SemanticAgreement("", drawn)
        means = weights @ of_images / weights.sum(axis=1, keepdims=True)
        n_used = weights @ used
        own = [_divide(weights @ (used * value), n_used) for value in (single.dice, single.iou)]
        classes = np.stack([pooled.dice, pooled.iou, pooled.precision, pooled.recall, *own], axis=2)
        classes[pooled.truth_pixels + pooled.predicted_pixels == 0] = np.nan
        every = [pooled.foreground_mean(pooled.dice), pooled.foreground_mean(pooled.iou), means]
        return np.column_stack([*every, classes.reshape(len(weights), -1)])

    return Scores(tuple(keys), values)


def coco_scores(matches: CocoMatches, prefix: str, n_classes: int) -> Scores:
    """mAP over IoU 0.5 to 0.95, at 0.5 and at 0.75: over classes, and of each class.

    Args:
        prefix: of the numbers' names, `coco_mask_` or `coco_box_`.
    """
    names = [f"{prefix}ap", f"{prefix}ap50", f"{prefix}ap75"]
    keys: list[Key] = [(name, None) for name in names]
    keys += [(name, c) for c in range(n_classes) for name in names]

    def values(weights: Floats) -> Floats:
        found = matches.average_precision(weights)
        at = [found.mean(axis=2), found[:, :, _PERCENT.index(50)], found[:, :, _PERCENT.index(75)]]
        classes = np.stack(at, axis=2)
        every = [_mean(one, np.nan) for one in at]
        return np.column_stack([*every, classes.reshape(len(weights), -1)])

    return Scores(tuple(keys), values)


def coco_area_scores(matches: CocoMatches, prefix: str) -> Scores:
    """mAP over the objects of each range of areas."""
    areas = [area for area in AREAS if area != "all"]

    def values(weights: Floats) -> Floats:
        found = (matches.average_precision(weights, area).mean(axis=2) for area in areas)
        return np.column_stack([_mean(one, np.nan) for one in found])

    return Scores(tuple((f"{prefix}ap_{area}", None) for area in areas), values)


def _mean(values: Floats, nothing: float) -> Floats:
    """(R,) mean over the classes (R, C) that have a number; `nothing` where none has."""
    known = ~np.isnan(values)
    total = np.where(known, values, 0.0).sum(axis=1)
    found = _divide(total, known.sum(axis=1))
    return np.where(np.isnan(found), nothing, found)


def _divide(part: Floats, whole: npt.NDArray[np.float64 | np.int64]) -> Floats:
    """part / whole; 0 / 0 is NaN."""
    found: Floats = np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0)
    return found
