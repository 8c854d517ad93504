"""Agreement of predicted objects with true ones.

A truth and a prediction match at a threshold where IoU >= threshold, each at most once. Above
0.5 no object can have two partners, as objects of a label image do not overlap; at 0.5 and below
the matching with the most pairs counts. The average precision of one threshold is
TP / (TP + FP + FN), as in the Data Science Bowl 2018 (Caicedo et al., Nature Methods 2019);
"AP" without a threshold is its mean over `THRESHOLDS`.

Where there is nothing to find and nothing was found (TP + FP + FN = 0), precision and Dice are 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import maximum_bipartite_matching

from segpipe.errors import InvariantError

THRESHOLDS = tuple(percent / 100 for percent in range(50, 100, 5))
"""IoU 0.5, 0.55 ... 0.95, each the float nearest to that decimal (a sum of steps would not be)."""

Labels = npt.NDArray[np.integer[Any]]


@dataclass(frozen=True, slots=True, eq=False)
class Overlaps:
    """Which true and predicted objects share pixels: a sparse table of IoU.

    Attributes:
        n_truth, n_predicted: objects.
        truth, predicted: (K,) index of the object among those of its image, by label; int64.
        iou: (K,) intersection over union in (0, 1]; float64.
        truth_pixels, predicted_pixels, common_pixels: foreground of each and of both.
    """

    n_truth: int
    n_predicted: int
    truth: npt.NDArray[np.int64]
    predicted: npt.NDArray[np.int64]
    iou: npt.NDArray[np.float64]
    truth_pixels: int
    predicted_pixels: int
    common_pixels: int


def match(truth: Labels, predicted: Labels) -> Overlaps:
    """Compare two label images; memory and time go with the pixels, not with pairs of objects.

    Args:
        truth, predicted: (H, W) integers from 0 (background) to 2**32 - 1; labels need not be
            consecutive.

    Raises:
        InvariantError: shapes or types do not fit.
    """
    if truth.shape != predicted.shape:
        raise InvariantError(
            f"truth {truth.shape} and prediction {predicted.shape} differ in shape"
        )
    truth_labels, truth_areas = _areas(truth)
    predicted_labels, predicted_areas = _areas(predicted)
    both = (truth > 0) & (predicted > 0)
    pairs = truth[both].astype(np.uint64) << np.uint64(32) | predicted[both].astype(np.uint64)
    pair_labels, common = np.unique(pairs, return_counts=True)
    i = np.searchsorted(truth_labels, pair_labels >> np.uint64(32))
    j = np.searchsorted(predicted_labels, pair_labels & np.uint64(0xFFFFFFFF))
    return Overlaps(
        n_truth=len(truth_labels),
        n_predicted=len(predicted_labels),
        truth=i,
        predicted=j,
        iou=common / (truth_areas[i] + predicted_areas[j] - common),
        truth_pixels=int(truth_areas.sum()),
        predicted_pixels=int(predicted_areas.sum()),
        common_pixels=int(common.sum()),
    )


def _areas(labels: Labels) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.int64]]:
    """The labels that occur, ascending, and their pixel counts."""
    if not np.issubdtype(labels.dtype, np.integer):
        raise InvariantError(f"a label image of {labels.dtype}; labels are integers")
    values, counts = np.unique(labels[labels != 0], return_counts=True)
    if len(values) and not 0 < values[0] <= values[-1] < 1 << 32:
        raise InvariantError(f"labels {values[0]} to {values[-1]}; allowed are 0 to 2**32 - 1")
    return values.astype(np.uint64), counts


def true_positives(overlaps: Overlaps, threshold: float) -> int:
    """Pairs of a truth and a prediction with IoU >= threshold: the most there can be."""
    enough = overlaps.iou >= threshold
    if threshold > 0.5:
        return int(enough.sum())
    pairs = overlaps.truth[enough], overlaps.predicted[enough]
    graph = coo_array(
        (np.ones(int(enough.sum()), np.int8), pairs),
        shape=(overlaps.n_truth, overlaps.n_predicted),
    ).tocsr()
    return int((maximum_bipartite_matching(graph) >= 0).sum())


def average_precision(true_positives: int, n_truth: int, n_predicted: int) -> float:
    """TP / (TP + FP + FN) in [0, 1]; 1 where all are 0."""
    objects = n_truth + n_predicted - true_positives
    return true_positives / objects if objects else 1.0


def dice(common: int, truth: int, predicted: int) -> float:
    """2 |A and B| / (|A| + |B|) in [0, 1] (Dice, Ecology 1945); 1 where both are empty."""
    return 2 * common / (truth + predicted) if truth + predicted else 1.0


@dataclass(frozen=True, slots=True)
class Agreement:
    """Agreement in one image, or pooled over several: the counts that every number comes from.

    Attributes:
        name: of the image.
        n_truth, n_predicted: objects.
        true_positives: at each of `THRESHOLDS`.
        truth_pixels, predicted_pixels, common_pixels: foreground of each and of both.
    """

    name: str
    n_truth: int
    n_predicted: int
    true_positives: tuple[int, ...]
    truth_pixels: int
    predicted_pixels: int
    common_pixels: int

    @classmethod
    def of(cls, name: str, truth: Labels, predicted: Labels) -> Agreement:
        """Compare two (H, W) label images; raises as `match` does."""
        overlaps = match(truth, predicted)
        return cls(
            name=name,
            n_truth=overlaps.n_truth,
            n_predicted=overlaps.n_predicted,
            true_positives=tuple(true_positives(overlaps, t) for t in THRESHOLDS),
            truth_pixels=overlaps.truth_pixels,
            predicted_pixels=overlaps.predicted_pixels,
            common_pixels=overlaps.common_pixels,
        )

    @classmethod
    def pool(cls, name: str, images: Sequence[Agreement]) -> Agreement:
        """All images taken as one: counts are added, so an image weighs by its objects."""
        return cls(
            name=name,
            n_truth=sum(image.n_truth for image in images),
            n_predicted=sum(image.n_predicted for image in images),
            true_positives=tuple(
                sum(image.true_positives[k] for image in images) for k in range(len(THRESHOLDS))
            ),
            truth_pixels=sum(image.truth_pixels for image in images),
            predicted_pixels=sum(image.predicted_pixels for image in images),
            common_pixels=sum(image.common_pixels for image in images),
        )

    @property
    def precisions(self) -> tuple[float, ...]:
        """Average precision at each of `THRESHOLDS`."""
        return tuple(
            average_precision(tp, self.n_truth, self.n_predicted) for tp in self.true_positives
        )

    @property
    def ap(self) -> float:
        """Mean of `precisions`."""
        return float(np.mean(self.precisions))

    @property
    def dice(self) -> float:
        """Of the foreground, whatever object a pixel belongs to."""
        return dice(self.common_pixels, self.truth_pixels, self.predicted_pixels)

    @property
    def count_error(self) -> int:
        """Predicted minus true objects."""
        return self.n_predicted - self.n_truth

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON; keys of `precision` and `true_positives` are thresholds like "0.50"."""
        keys = [f"{threshold:.2f}" for threshold in THRESHOLDS]
        return {
            "name": self.name,
            "n_truth": self.n_truth,
            "n_predicted": self.n_predicted,
            "count_error": self.count_error,
            "ap": self.ap,
            "ap50": self.precisions[0],
            "precision": dict(zip(keys, self.precisions, strict=True)),
            "true_positives": dict(zip(keys, self.true_positives, strict=True)),
            "dice": self.dice,
        }


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Agreement over a set of images, at least one.

    Attributes:
        images: one entry per compared image.
        images_without_truth: results that had no truth to compare with.
        truth_without_image: truths without a result: the image failed or is not in the store.
    """

    images: tuple[Agreement, ...]
    images_without_truth: int = 0
    truth_without_image: int = 0

    @property
    def pooled(self) -> Agreement:
        """Counts added over all images."""
        return Agreement.pool("pooled", self.images)

    @property
    def mean_precisions(self) -> tuple[float, ...]:
        """At each of `THRESHOLDS`, the mean of the images' own precisions."""
        columns = zip(*(image.precisions for image in self.images), strict=True)
        return tuple(float(np.mean(column)) for column in columns)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON: `pooled`, `mean_per_image`, counts and every image."""
        keys = [f"{threshold:.2f}" for threshold in THRESHOLDS]
        errors = [image.count_error for image in self.images]
        return {
            "n_images": len(self.images),
            "images_without_truth": self.images_without_truth,
            "truth_without_image": self.truth_without_image,
            "pooled": self.pooled.to_dict(),
            "mean_per_image": {
                "ap": float(np.mean(self.mean_precisions)),
                "ap50": self.mean_precisions[0],
                "precision": dict(zip(keys, self.mean_precisions, strict=True)),
                "dice": float(np.mean([image.dice for image in self.images])),
                "count_error": float(np.mean(errors)),
                "absolute_count_error": float(np.mean(np.abs(errors))),
            },
            "images": [image.to_dict() for image in self.images],
        }
