"""Agreement of a class per pixel with the true one.

Of a class, TP, FP and FN are pixels: true and predicted, predicted only, true only. Dice is
2 TP / (2 TP + FP + FN) (Dice, Ecology 1945), IoU is TP / (TP + FP + FN) (Jaccard 1912), precision
TP / (TP + FP), recall TP / (TP + FN).

A ratio of 0 to 0 is 1: there was nothing to get wrong. So Dice and IoU of a class that is neither
true nor predicted are 1, precision is 1 where nothing was predicted, and recall is 1 where there
is nothing to find. Means over classes leave out classes that are neither true nor predicted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from segpipe.errors import InvariantError

Classes = npt.NDArray[np.integer[Any]]
Counts = npt.NDArray[np.int64]
Ratios = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class SemanticAgreement:
    """Agreement in one image, or pooled over several: the counts that every number comes from.

    Attributes:
        name: of the image.
        confusion: (C, C) int64 pixels; the row is the true class, the column the predicted one.
            It may have leading axes, one matrix per sample: so have the numbers by class, then.
    """

    name: str
    confusion: Counts

    @classmethod
    def of(cls, name: str, truth: Classes, predicted: Classes, n_classes: int) -> SemanticAgreement:
        """Compare two class images.

        Args:
            truth, predicted: (H, W) integers in [0, n_classes); 0 is the background.
            n_classes: with the background.

        Raises:
            InvariantError: shapes, types or values do not fit.
        """
        if truth.shape != predicted.shape:
            raise InvariantError(
                f"truth {truth.shape} and prediction {predicted.shape} differ in shape"
            )
        for what, image in (("truth", truth), ("prediction", predicted)):
            if not np.issubdtype(image.dtype, np.integer):
                raise InvariantError(f"{what} of {image.dtype}; classes are integers")
            if image.size and not 0 <= image.min() <= image.max() < n_classes:
                raise InvariantError(
                    f"{what} with classes {image.min()} to {image.max()}; "
                    f"allowed are 0 to {n_classes - 1}"
                )
        pairs = truth.astype(np.int64).ravel() * n_classes + predicted.ravel()
        counts = np.bincount(pairs, minlength=n_classes * n_classes)
        return cls(name, counts.reshape(n_classes, n_classes).astype(np.int64))

    @classmethod
    def pool(cls, name: str, images: Sequence[SemanticAgreement]) -> SemanticAgreement:
        """All images, at least one, taken as one: an image weighs by its pixels."""
        return cls(name, np.sum([image.confusion for image in images], axis=0, dtype=np.int64))

    @property
    def truth_pixels(self) -> Counts:
        """(C,) pixels that are of each class."""
        pixels: Counts = self.confusion.sum(axis=-1)
        return pixels

    @property
    def predicted_pixels(self) -> Counts:
        """(C,) pixels that were said to be of each class."""
        pixels: Counts = self.confusion.sum(axis=-2)
        return pixels

    @property
    def common_pixels(self) -> Counts:
        """(C,) pixels of which both are true."""
        return np.diagonal(self.confusion, axis1=-2, axis2=-1)

    @property
    def dice(self) -> Ratios:
        """(C,) Dice of each class."""
        return ratio(2 * self.common_pixels, self.truth_pixels + self.predicted_pixels)

    @property
    def iou(self) -> Ratios:
        """(C,) intersection over union of each class."""
        union = self.truth_pixels + self.predicted_pixels - self.common_pixels
        return ratio(self.common_pixels, union)

    @property
    def precision(self) -> Ratios:
        """(C,) share of the predicted pixels that are right."""
        return ratio(self.common_pixels, self.predicted_pixels)

    @property
    def recall(self) -> Ratios:
        """(C,) share of the true pixels that were found."""
        return ratio(self.common_pixels, self.truth_pixels)

    @property
    def mean_dice(self) -> float:
        """Over the classes but the background that are true or predicted; 1 where none is."""
        return float(self.foreground_mean(self.dice))

    @property
    def mean_iou(self) -> float:
        """Over the classes but the background that are true or predicted; 1 where none is."""
        return float(self.foreground_mean(self.iou))

    def foreground_mean(self, values: Ratios) -> Ratios:
        """The mean of (C,) values over the classes but the background that are in use."""
        used = (self.truth_pixels + self.predicted_pixels > 0)[..., 1:]
        return ratio((values[..., 1:] * used).sum(axis=-1), used.sum(axis=-1))

    def to_dict(self, classes: Sequence[str]) -> dict[str, Any]:
        """Plain JSON.

        Args:
            classes: C names by class id; entry 0 is the background.
        """
        return {
            "name": self.name,
            "mean_dice": self.mean_dice,
            "mean_iou": self.mean_iou,
            "classes": [
                {
                    "class_id": i,
                    "class_name": name,
                    "dice": float(self.dice[i]),
                    "iou": float(self.iou[i]),
                    "precision": float(self.precision[i]),
                    "recall": float(self.recall[i]),
                    "truth_pixels": int(self.truth_pixels[i]),
                    "predicted_pixels": int(self.predicted_pixels[i]),
                }
                for i, name in enumerate(classes)
            ],
        }


def ratio(part: npt.NDArray[Any], whole: npt.NDArray[Any]) -> Ratios:
    """part / whole, element by element; 0 / 0 is 1."""
    ratios: Ratios = np.divide(part, whole, out=np.ones(np.shape(whole)), where=whole != 0)
    return ratios
