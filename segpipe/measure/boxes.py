"""Agreement of predicted boxes with the boxes around true objects."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from segpipe.measure.evaluation import Agreement
from segpipe.measure.matching import Mask, Overlaps
from segpipe.records import Segmentation

Boxes = npt.NDArray[np.float64]
"""(N, 4) x0, y0, x1, y1 in pixels, half open."""


def box_agreement(name: str, truth: npt.NDArray[np.integer[Any]], found: Segmentation) -> Agreement:
    """As `Agreement.of`, with the IoU of boxes in place of the IoU of masks.

    Args:
        truth: (H, W) label image.
        found: its objects fill their boxes.
    """
    true_boxes, predicted = boxes_of(truth), _found_boxes(found)
    overlaps = match_boxes(true_boxes, predicted, truth > 0, found.label_image > 0)
    return Agreement.of_overlaps(name, overlaps)


def match_boxes(
    truth: Boxes, predicted: Boxes, filled: Mask, full: Mask, crowd: Boxes | None = None
) -> Overlaps:
    """Compare boxes, which may overlap, by their whole areas.

    Args:
        filled, full: (H, W) foreground of the truth and of the prediction.
        crowd: boxes of objects that the truth does not tell apart.
    """
    iou = box_iou(truth, predicted)
    i, j = np.nonzero(iou)
    excused = np.zeros(len(predicted), np.bool_)
    if crowd is not None and len(crowd):
        excused = 2 * _common(crowd, predicted).max(axis=0) > _areas(predicted)
    return Overlaps(
        n_truth=len(truth),
        n_predicted=len(predicted),
        truth=i,
        predicted=j,
        iou=iou[i, j],
        excused=excused,
        truth_pixels=int(filled.sum()),
        predicted_pixels=int(full.sum()),
        common_pixels=int((filled & full).sum()),
    )


def boxes_of(labels: npt.NDArray[np.integer[Any]]) -> Boxes:
    """(N, 4) boxes around the objects, in the order of the labels that occur."""
    found = [region for region in ndimage.find_objects(labels.astype(np.int32)) if region]
    corners = [(x.start, y.start, x.stop, y.stop) for y, x in found]
    return np.array(corners, np.float64).reshape(-1, 4)


def box_iou(a: Boxes, b: Boxes) -> npt.NDArray[np.float64]:
    """(N, M) intersection over union of boxes (N, 4) and (M, 4); 0 for empty ones."""
    common = _common(a, b)
    union = _areas(a)[:, None] + _areas(b)[None] - common
    return np.divide(common, union, out=np.zeros_like(common), where=union > 0)


def _common(a: Boxes, b: Boxes) -> npt.NDArray[np.float64]:
    """(N, M) area that boxes share."""
    lower = np.maximum(a[:, None, :2], b[None, :, :2])
    upper = np.minimum(a[:, None, 2:], b[None, :, 2:])
    common: npt.NDArray[np.float64] = np.prod(np.clip(upper - lower, 0, None), axis=2)
    return common


def _areas(boxes: Boxes) -> npt.NDArray[np.float64]:
    areas: npt.NDArray[np.float64] = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    return areas


def _found_boxes(found: Segmentation) -> Boxes:
    """The whole boxes: from an object's own mask where it is partly hidden."""
    regions = ndimage.find_objects(found.label_image.astype(np.int32), found.n_objects)
    corners = []
    for label, region in enumerate(regions, start=1):
        own = found.own_masks.get(label)
        if own is not None:
            height, width = own.mask.shape
            corners.append((own.x0, own.y0, own.x0 + width, own.y0 + height))
        elif region is not None:
            y, x = region
            corners.append((x.start, y.start, x.stop, y.stop))
    return np.array(corners, np.float64).reshape(-1, 4)
