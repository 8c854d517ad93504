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


class Matching:
    """Two label images that are compared part by part; memory goes with their objects."""

    def __init__(self) -> None:
        self._truth, self._predicted = _Counts(), _Counts()
        self._in_void, self._in_crowd = _Counts(), _Counts()
        self._pairs = _Counts()

    def add(
        self, truth: Labels, predicted: Labels, void: Mask | None = None, crowd: Mask | None = None
    ) -> None:
        """A part of both, each pixel once; as `match`."""
        for other in (predicted, void, crowd):
            if other is not None and other.shape != truth.shape:
                raise InvariantError(
                    f"truth {truth.shape} and prediction {other.shape} differ in shape"
                )
        self._truth.add(_labels(truth))
        self._predicted.add(_labels(predicted))
        for region, counts in ((void, self._in_void), (crowd, self._in_crowd)):
            if region is not None:
                counts.add(_labels(predicted[region]))
        both = (truth > 0) & (predicted > 0)
        self._pairs.add(
            truth[both].astype(np.uint64) << np.uint64(32) | predicted[both].astype(np.uint64)
        )

    def labels(self) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]]:
        """Those that occur in truth and in prediction, ascending."""
        return self._truth.total()[0], self._predicted.total()[0]

    def overlaps(self) -> Overlaps:
        """What the parts come to."""
        truth_labels, truth_areas = self._truth.total()
        predicted_labels, predicted_areas = self._predicted.total()
        in_void = self._in_void.of(predicted_labels)
        in_crowd = self._in_crowd.of(predicted_labels)
        pair_labels, common = self._pairs.total()
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
    matching = Matching()
    matching.add(truth, predicted, void, crowd)
    return matching.overlaps()


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


class _Counts:
    """How often each value occurs, over all parts."""

    def __init__(self) -> None:
        self._parts: list[tuple[npt.NDArray[np.uint64], npt.NDArray[np.int64]]] = []

    def add(self, values: npt.NDArray[np.uint64]) -> None:
        # Pixels beside each other are of one object mostly: there are fewer runs to be sorted.
        starts = np.flatnonzero(np.append(True, values[1:] != values[:-1])[: len(values)])
        self._add(values[starts], np.diff(starts, append=len(values)))

    def _add(self, values: npt.NDArray[np.uint64], counts: npt.NDArray[np.int64]) -> None:
        own, place = np.unique(values, return_inverse=True)
        self._parts.append((own, np.bincount(place, counts, len(own)).astype(np.int64)))

    def total(self) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.int64]]:
        """The values that occur, ascending, and their counts."""
        if len(self._parts) != 1:
            parts, self._parts = self._parts, []
            values = [np.zeros(0, np.uint64), *(own for own, _ in parts)]
            counts = [np.zeros(0, np.int64), *(own for _, own in parts)]
            self._add(np.concatenate(values), np.concatenate(counts))
        return self._parts[0]

    def of(self, known: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
        """Of each known value; all that occur are known."""
        values, counts = self.total()
        of_known = np.zeros(len(known), np.int64)
        of_known[np.searchsorted(known, values)] = counts
        return of_known


def _labels(labels: Labels) -> npt.NDArray[np.uint64]:
    """Of all pixels that have one."""
    if not np.issubdtype(labels.dtype, np.integer):
        raise InvariantError(f"a label image of {labels.dtype}; labels are integers")
    found = labels[labels != 0]
    if len(found) and not 0 < found.min() <= found.max() < 1 << 32:
        raise InvariantError(f"labels {found.min()} to {found.max()}; allowed are 0 to 2**32 - 1")
    return np.asarray(found, np.uint64)


def _distinct(indices: npt.NDArray[np.int64]) -> bool:
    return len(np.unique(indices)) == len(indices)
