"""From the maps that a network draws to objects: the postprocessing of the U-Net.

Touching objects are told apart by a watershed (Beucher and Lantuejoul, 1979) on a learnt distance
map (Naylor et al., IEEE TMI 2019). Which of its hills are objects of their own, and which a mere
unevenness of one, is told by how deep the saddle between them is: the hill's dynamics (Grimaud,
Proc. SPIE 1769, 1992).
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from segpipe.compiled import compiled
from segpipe.spec import UNetOptions

FloatMap = npt.NDArray[np.float32]
LabelImage = npt.NDArray[np.uint32]
Scores = npt.NDArray[np.float32]
Semantic = npt.NDArray[np.uint8]
Confidence = npt.NDArray[np.float32]
Pixels = npt.NDArray[np.int32]
"""Positions in a flattened image."""

_LEVELS = 256


def split_instances(
    foreground: FloatMap, distance: FloatMap, edge: FloatMap, options: UNetOptions
) -> tuple[LabelImage, Scores]:
    """Objects from the three maps of a network for instances.

    Each hill of `distance - edge_weight * edge` over the foreground is an object, with the slopes
    down to its saddles; hills with a saddle less than `min_depth` below the lower one's top are
    one object. Objects below `min_area` are left out.

    Args:
        foreground: (H, W) probability of being inside an object.
        distance: (H, W) in [0, 1], 1 in the middle of an object, 0 at its border.
        edge: (H, W) probability of lying where two objects touch.
        options: the thresholds.

    Returns:
        The label image (H, W) uint32 with labels 1..N in the order of each object's first pixel,
        row by row, and N scores in [0, 1]: the mean foreground probability in each object.
    """
    threshold = np.float32(options.foreground_threshold)
    levels, inside = _terrain(
        foreground, threshold, distance, edge, np.float32(options.edge_weight)
    )
    depth = math.ceil(options.min_depth * (_LEVELS - 1))
    labels, count = _hills(levels.ravel(), inside.ravel(), inside.shape[1], depth)
    labels = labels.reshape(inside.shape)[1:-1, 1:-1]
    return _number(labels, np.ascontiguousarray(foreground), count, options.min_area)


def classes_of(probabilities: FloatMap, foreground_threshold: float) -> tuple[Semantic, Confidence]:
    """Classes from the class probabilities of a network for semantic segmentation.

    Args:
        probabilities: (C, H, W), C at most 256; class 0 is background.
        foreground_threshold: a pixel is background unless the other classes together are more
            probable than this.

    Returns:
        The class (H, W) uint8, of those that are not background the most probable; and its
        probability (H, W) float32, also where it is background that was chosen.
    """
    inside = 1 - probabilities[0] > foreground_threshold
    semantic = np.where(inside, probabilities[1:].argmax(0) + 1, 0).astype(np.uint8)
    return semantic, probabilities[1:].max(0)


def regions_of(
    semantic: Semantic, confidence: Confidence, min_area: int
) -> tuple[LabelImage, Scores, npt.NDArray[np.int32]]:
    """The connected regions of the classes.

    Args:
        semantic, confidence: from `classes_of`.
        min_area: regions with fewer pixels are no objects; the semantic mask keeps them.

    Returns:
        A label image (H, W) uint32, numbered as by `split_instances`; the regions' scores (N,), the
        mean probability of the class; and their class ids (N,).
    """
    labels = np.zeros(semantic.shape, np.int32)
    count = 0
    for class_id in np.unique(semantic[semantic > 0]):
        regions, found = ndimage.label(semantic == class_id)
        labels += np.where(regions > 0, regions + count, 0)
        count += found
    label_image, scores = _number(labels, confidence, count, min_area)
    class_ids = np.zeros(len(scores) + 1, np.int32)
    class_ids[label_image] = semantic
    return label_image, scores, class_ids[1:]


@compiled
def _terrain(
    foreground: FloatMap,
    threshold: np.float32,
    distance: FloatMap,
    edge: FloatMap,
    edge_weight: np.float32,
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_]]:
    """Heights in `_LEVELS` steps, and which pixels are foreground; both with a border of zeros."""
    height, width = foreground.shape
    levels = np.zeros((height + 2, width + 2), np.uint8)
    inside = np.zeros((height + 2, width + 2), np.bool_)
    low, high, steps = np.float32(0), np.float32(1), np.float32(_LEVELS - 1)
    for y in range(height):
        for x in range(width):
            inside[y + 1, x + 1] = foreground[y, x] > threshold
            value = distance[y, x] - edge_weight * edge[y, x]
            levels[y + 1, x + 1] = np.uint8(min(max(value, low), high) * steps)
    return levels, inside


@compiled
def _hills(
    levels: npt.NDArray[np.uint8], inside: npt.NDArray[np.bool_], width: int, min_depth: int
) -> tuple[npt.NDArray[np.int32], int]:
    """Number the hills of a flattened image, whose outermost pixels are not `inside`.

    The water falls from the highest level: a pixel that surfaces beside no hill is the top of a
    new one, beside one hill it belongs to it, and beside two it is their saddle, where they become
    one if the lower top is less than `min_depth` above. Hills are trees of pixels (union-find).
    """
    parent = np.full(levels.size, -1, np.int32)
    for pixel in _descending(levels, inside):
        root = -1
        for step in (-width, -1, 1, width):
            above = parent[pixel + step]
            if above < 0 or above == root:
                continue
            other = _root(parent, pixel + step)
            if root < 0:
                root = parent[pixel] = other
            elif other != root:
                # Signed, as numba would let the difference of two uint8 wrap around.
                top, saddle = min(levels[root], levels[other]), levels[pixel]
                if np.int32(top) - np.int32(saddle) < min_depth:
                    if levels[other] > levels[root]:
                        root, other = other, root
                    parent[other] = root
        if root < 0:
            parent[pixel] = pixel
    return _enumerate(parent)


@compiled
def _descending(levels: npt.NDArray[np.uint8], inside: npt.NDArray[np.bool_]) -> Pixels:
    """The pixels inside, highest first, and row by row within a level (a counting sort)."""
    ends = np.zeros(_LEVELS + 1, np.int64)
    for pixel in range(levels.size):
        if inside[pixel]:
            ends[_LEVELS - levels[pixel]] += 1
    ends = np.cumsum(ends)
    order = np.empty(ends[-1], np.int32)
    for pixel in range(levels.size):
        if inside[pixel]:
            rank = _LEVELS - 1 - levels[pixel]
            order[ends[rank]] = pixel
            ends[rank] += 1
    return order


@compiled
def _root(parent: Pixels, pixel: int) -> int:
    """The root of a pixel's tree, which is the top of its hill; shortens the way on the way."""
    while parent[pixel] != pixel:
        parent[pixel] = parent[parent[pixel]]
        pixel = parent[pixel]
    return pixel


@compiled
def _enumerate(parent: Pixels) -> tuple[npt.NDArray[np.int32], int]:
    """Trees to labels 1..N, and N; 0 where there is none."""
    labels = np.zeros(parent.size, np.int32)
    count = 0
    for pixel in range(parent.size):
        if parent[pixel] == pixel:
            count += 1
            labels[pixel] = count
    for pixel in range(parent.size):
        if parent[pixel] >= 0:
            labels[pixel] = labels[_root(parent, pixel)]
    return labels, count


@compiled
def _number(
    labels: npt.NDArray[np.int32], probability: FloatMap, count: int, min_area: int
) -> tuple[LabelImage, Scores]:
    """Leave out small objects, number the others by first pixel, average their probability."""
    area = np.zeros(count + 1, np.int64)
    total = np.zeros(count + 1, np.float64)
    height, width = labels.shape
    for y in range(height):
        for x in range(width):
            label = labels[y, x]
            if label > 0:
                area[label] += 1
                total[label] += probability[y, x]
    number = np.zeros(count + 1, np.uint32)
    scores = np.empty(count, np.float32)
    label_image = np.zeros(labels.shape, np.uint32)
    n = 0
    for y in range(height):
        for x in range(width):
            label = labels[y, x]
            if label == 0 or area[label] < min_area:
                continue
            if number[label] == 0:
                scores[n] = total[label] / area[label]
                n += 1
                number[label] = n
            label_image[y, x] = number[label]
    return label_image, scores[:n].copy()
