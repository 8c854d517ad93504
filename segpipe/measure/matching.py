"""Which true and which predicted objects belong together.

A truth and a prediction match at a threshold where IoU >= threshold, each at most once. Objects of
a label image do not overlap, so above 0.5 none of them can have two partners; at 0.5 and below,
and for boxes, the matching with the most pairs counts.

Regions that are not annotated object by object are handled as in the panoptic quality of Kirillov
et al. (CVPR 2019): pixels without a label (void) do not count against a prediction, and a
prediction that matches nothing and lies by more than half in void, or in a crowd, is excused: it
is neither right nor wrong.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_array
from scipy.sparse.csgraph import maximum_bipartite_matching

from segpipe.errors import InvariantError

Labels = npt.NDArray[np.integer[Any]]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Overlaps:
    """Which true and predicted objects share pixels: a sparse table of IoU.

    Attributes:
        n_truth, n_predicted: objects.
        truth, predicted: (K,) index of the object among those of its image, by label; int64.
        iou: (K,) intersection over union in (0, 1]; float64.
        excused: (n_predicted,) bool: does not count where it matches nothing.
        truth_pixels, predicted_pixels, common_pixels: foreground of each and of both.
    """

    n_truth: int
    n_predicted: int
    truth: npt.NDArray[np.int64]
    predicted: npt.NDArray[np.int64]
    iou: npt.NDArray[np.float64]
    excused: Mask
    truth_pixels: int
    predicted_pixels: int
    common_pixels: int


def match(
    truth: Labels, predicted: Labels, void: Mask | None = None, crowd: Mask | None = None
) -> Overlaps:
    """Compare two label images; memory and time go with the pixels, not with pairs of objects.

    Args:
        truth, predicted: (H, W) integers from 0 (background) to 2**32 - 1; labels need not be
            consecutive.
        void: (H, W) pixels of which the truth says nothing; none of a true object.
        crowd: (H, W) pixels of objects that the truth does not tell apart.

    Raises:
        InvariantError: shapes or types do not fit.
    """
    for other in (predicted, void, crowd):
        if other is not None and other.shape != truth.shape:
            raise InvariantError(
                f"truth {truth.shape} and prediction {other.shape} differ in shape"
            )
    truth_labels, truth_areas = _areas(truth)
    predicted_labels, predicted_areas = _areas(predicted)
    in_void = _pixels_in(void, predicted, predicted_labels)
    in_crowd = _pixels_in(crowd, predicted, predicted_labels)
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
        iou=common / (truth_areas[i] + (predicted_areas - in_void)[j] - common),
        excused=2 * (in_void + in_crowd) > predicted_areas,
        truth_pixels=int(truth_areas.sum()),
        predicted_pixels=int((predicted_areas - in_void).sum()),
        common_pixels=int(common.sum()),
    )


def true_positives(overlaps: Overlaps, threshold: float) -> int:
    """Pairs of a truth and a prediction with IoU >= threshold: the most there can be."""
    enough = overlaps.iou >= threshold
    i, j = overlaps.truth[enough], overlaps.predicted[enough]
    if _distinct(i) and _distinct(j):
        return len(i)
    graph = coo_array(
        (np.ones(len(i), np.int8), (i, j)), shape=(overlaps.n_truth, overlaps.n_predicted)
    ).tocsr()
    return int((maximum_bipartite_matching(graph) >= 0).sum())


def segments(overlaps: Overlaps) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """The matches of the panoptic quality: IoU > 0.5, and the largest sum of IoU.

    Returns:
        (M,) index of the matched prediction, and (M,) IoU of the pair.
    """
    enough = overlaps.iou > 0.5
    i, j, iou = overlaps.truth[enough], overlaps.predicted[enough], overlaps.iou[enough]
    if _distinct(i) and _distinct(j):
        return j, iou
    table = np.zeros((overlaps.n_truth, overlaps.n_predicted))
    table[i, j] = iou
    rows, columns = linear_sum_assignment(table, maximize=True)
    chosen = table[rows, columns]
    return columns[chosen > 0], chosen[chosen > 0]


def _areas(labels: Labels) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.int64]]:
    """The labels that occur, ascending, and their pixel counts."""
    if not np.issubdtype(labels.dtype, np.integer):
        raise InvariantError(f"a label image of {labels.dtype}; labels are integers")
    values, counts = np.unique(labels[labels != 0], return_counts=True)
    if len(values) and not 0 < values[0] <= values[-1] < 1 << 32:
        raise InvariantError(f"labels {values[0]} to {values[-1]}; allowed are 0 to 2**32 - 1")
    return values.astype(np.uint64), counts


def _pixels_in(
    region: Mask | None, labels: Labels, known: npt.NDArray[np.uint64]
) -> npt.NDArray[np.int64]:
    """Of each known label, how many pixels lie in a region."""
    inside = np.zeros(len(known), np.int64)
    if region is not None:
        values, counts = np.unique(labels[region & (labels != 0)], return_counts=True)
        inside[np.searchsorted(known, values.astype(np.uint64))] = counts
    return inside


def _distinct(indices: npt.NDArray[np.int64]) -> bool:
    return len(np.unique(indices)) == len(indices)
