"""Agreement of predicted objects with true ones.

What matches is said in `segpipe.measure.matching`. The average precision of one IoU threshold is
TP / (TP + FP + FN), as in the Data Science Bowl 2018 (Caicedo et al., Nature Methods 2019);
"AP" without a threshold is its mean over `THRESHOLDS`.

The panoptic quality (Kirillov et al., CVPR 2019) is PQ = SQ x RQ, of matches with IoU > 0.5: the
segmentation quality SQ is the mean IoU of the matches (0 where there is none), the recognition
quality RQ is TP / (TP + FP / 2 + FN / 2).

Where there is nothing to find and nothing was found (TP + FP + FN = 0), all of these are 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from segpipe.measure.matching import Labels, Mask, Overlaps, match, segments, true_positives

THRESHOLDS = tuple(percent / 100 for percent in range(50, 100, 5))
"""IoU 0.5, 0.55 ... 0.95, each the float nearest to that decimal (a sum of steps would not be)."""


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
        n_truth, n_predicted: objects that count.
        true_positives: at each of `THRESHOLDS`.
        n_segments: matches of the panoptic quality, those with IoU > 0.5.
        segment_iou: sum of the IoU of these.
        n_excused: predicted objects besides `n_predicted`: in a crowd, or where nothing is known.
        truth_pixels, predicted_pixels, common_pixels: foreground of each and of both.
    """

    name: str
    n_truth: int
    n_predicted: int
    true_positives: tuple[int, ...]
    n_segments: int
    segment_iou: float
    n_excused: int
    truth_pixels: int
    predicted_pixels: int
    common_pixels: int

    @classmethod
    def of(
        cls,
        name: str,
        truth: Labels,
        predicted: Labels,
        void: Mask | None = None,
        crowd: Mask | None = None,
    ) -> Agreement:
        """Compare two (H, W) label images; arguments and errors are those of `match`."""
        return cls.of_overlaps(name, match(truth, predicted, void, crowd))

    @classmethod
    def of_overlaps(cls, name: str, overlaps: Overlaps) -> Agreement:
        """The counts of objects that were compared."""
        matched, iou = segments(overlaps)
        excused = overlaps.excused.copy()
        excused[matched] = False
        n_excused = int(excused.sum())
        return cls(
            name=name,
            n_truth=overlaps.n_truth,
            n_predicted=overlaps.n_predicted - n_excused,
            true_positives=tuple(true_positives(overlaps, threshold) for threshold in THRESHOLDS),
            n_segments=len(iou),
            segment_iou=math.fsum(iou),
            n_excused=n_excused,
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
            n_segments=sum(image.n_segments for image in images),
            segment_iou=math.fsum(image.segment_iou for image in images),
            n_excused=sum(image.n_excused for image in images),
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
    def sq(self) -> float:
        """Segmentation quality: the mean IoU of matches."""
        if self.n_segments:
            return self.segment_iou / self.n_segments
        return 0.0 if self.n_truth + self.n_predicted else 1.0

    @property
    def rq(self) -> float:
        """Recognition quality: F1 of the matches."""
        objects = self.n_truth + self.n_predicted
        return 2 * self.n_segments / objects if objects else 1.0

    @property
    def pq(self) -> float:
        """Panoptic quality of one class of objects; of several it is the mean of theirs."""
        return self.sq * self.rq

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
            "pq": self.pq,
            "sq": self.sq,
            "rq": self.rq,
            "dice": self.dice,
            "n_excused": self.n_excused,
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
