"""Objects to the label image that shows them, and label images from elsewhere to objects.

Instances are the truth and may overlap; the label image is their projection. What the projection
hides is kept beside it: the full mask of each object that shares a pixel with another.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from segpipe.compiled import compiled, readable
from segpipe.measure.kernels import find_boxes
from segpipe.records import CroppedMask, Instances, Segmentation


def paint(instances: Instances, shape: tuple[int, int]) -> Segmentation:
    """Project instances to a label image of `shape` (H, W); the best score shows.

    Label i + 1 is instance i, so labels ascend as scores descend. The work is that of the crops,
    besides one empty label image.
    """
    label_image = np.zeros(shape, np.uint32)
    overlapping = np.zeros(len(instances.masks) + 1, np.bool_)
    for label in range(len(instances.masks), 0, -1):
        crop = instances.masks[label - 1]
        height, width = crop.mask.shape
        target = label_image[crop.y0 : crop.y0 + height, crop.x0 : crop.x0 + width]
        _cover(target, readable(crop.mask, np.bool_), label, overlapping)
    hidden = np.flatnonzero(overlapping[1:])
    return Segmentation(
        label_image,
        instances.scores,
        instances.class_ids,
        own_masks={int(i) + 1: instances.masks[i] for i in hidden},
        saturated=instances.saturated,
        n_discarded=instances.n_discarded,
    )


@compiled
def _cover(
    target: npt.NDArray[np.uint32],
    mask: npt.NDArray[np.bool_],
    label: int,
    overlapping: npt.NDArray[np.bool_],
) -> None:
    """Write a label where its mask is, and note which labels share a pixel.

    Of three objects on a pixel each covers one, or is covered by one, that is marked here.
    """
    for y in range(mask.shape[0]):
        for x in range(mask.shape[1]):
            if mask[y, x]:
                covered = target[y, x]
                if covered:
                    overlapping[covered] = overlapping[label] = True
                target[y, x] = label


def unpaint(found: Segmentation, y0: int = 0, x0: int = 0) -> Instances:
    """The objects of a label image, each with all of its pixels, hidden ones included.

    Args:
        found: of an image, or of a part of it.
        y0, x0: where that part begins in the image, whose coordinates the masks are in.

    Returns:
        In the order of the labels, which is by score where the method gives scores.
    """
    labels = readable(found.label_image, np.uint32)
    boxes = np.empty((found.n_objects, 4), np.int64)
    find_boxes(labels, boxes, np.empty(found.n_objects, np.int64))
    masks = []
    for label, (top, left, bottom, right) in enumerate(boxes.tolist(), start=1):
        own = found.own_masks.get(label)
        if own is None:
            own = CroppedMask(top, left, labels[top:bottom, left:right] == label)
        masks.append(CroppedMask(own.y0 + y0, own.x0 + x0, own.mask))
    return Instances(
        tuple(masks), found.scores, found.class_ids, found.saturated, found.n_discarded
    )


def from_label_image(label_image: npt.NDArray[np.integer[Any]]) -> Segmentation:
    """Objects of a method that gives a label image and neither scores nor classes.

    Args:
        label_image: (H, W) of any integer type; 0 is background, objects have any labels above.

    Returns:
        Labels 1..N in the order of each object's first pixel, row by row; scores NaN; class 1.

    Raises:
        ValueError: a negative label, or not an image of integers.
    """
    if label_image.ndim != 2 or not np.issubdtype(label_image.dtype, np.integer):
        raise ValueError(f"no label image: {label_image.dtype} of shape {label_image.shape}")
    numbered, count = _number(label_image.ravel())
    return Segmentation(
        numbered.reshape(label_image.shape),
        np.full(count, np.nan, np.float32),
        np.ones(count, np.int32),
    )


def _number(labels: npt.NDArray[np.integer[Any]]) -> tuple[npt.NDArray[np.uint32], int]:
    """Labels in a row to 1..N in order of appearance; works on runs, which are few."""
    starts = np.flatnonzero(np.diff(labels, prepend=0) != 0)
    starts = np.union1d([0], starts)[: len(labels)]
    values = labels[starts]
    if np.any(values < 0):
        raise ValueError(f"negative label {values.min()}; 0 is background, objects are above")
    present, first, inverse = np.unique(values, return_index=True, return_inverse=True)
    order = np.argsort(np.where(present == 0, -1, first))
    new = np.empty(len(present), np.uint32)
    new[order] = np.arange(len(present)) + (present.min(initial=1) > 0)
    lengths = np.diff(starts, append=len(labels))
    return np.repeat(new[inverse], lengths), int(np.count_nonzero(present))
