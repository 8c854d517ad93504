"""From the maps that a network draws to objects: the postprocessing of the U-Net.

Touching objects are told apart by a watershed on the distance map, seeded by the objects' cores
(Beucher and Lantuejoul, 1979; learnt distance maps: Naylor et al., IEEE TMI 2019).
"""

from __future__ import annotations

import numba
import numpy as np
import numpy.typing as npt
from scipy import ndimage

from segpipe.spec import UNetOptions

FloatMap = npt.NDArray[np.float32]
LabelImage = npt.NDArray[np.uint32]
Scores = npt.NDArray[np.float32]
Links = npt.NDArray[np.int32]

_LEVELS = 256


def split_instances(
    foreground: FloatMap, distance: FloatMap, edge: FloatMap, options: UNetOptions
) -> tuple[LabelImage, Scores]:
    """Objects from the three maps of a network for instances.

    Cores are the connected pixels where `distance - edge_weight * edge` is above
    `seed_threshold`; each grows downhill over the foreground. Foreground that no core reaches
    becomes an object of its own. Objects below `min_area` are left out.

    Args:
        foreground: (H, W) probability of being inside an object.
        distance: (H, W) in [0, 1], 1 in the middle of an object, 0 at its border.
        edge: (H, W) probability of lying where two objects touch.
        options: the thresholds.

    Returns:
        The label image (H, W) uint32 with labels 1..N in the order of each object's first pixel,
        row by row, and N scores in [0, 1]: the mean foreground probability in each object.
    """
    inside = foreground > options.foreground_threshold
    interior = distance - np.float32(options.edge_weight) * edge
    cores, count = ndimage.label(inside & (interior > options.seed_threshold))
    labels = _grow(cores, interior, inside)
    coreless, extra = ndimage.label(inside & (labels == 0))
    if extra:
        labels += np.where(coreless > 0, coreless + count, 0)
    return _number(labels, np.ascontiguousarray(foreground), count + extra, options.min_area)


def split_classes(
    probabilities: FloatMap, min_area: int
) -> tuple[npt.NDArray[np.uint8], LabelImage, Scores, npt.NDArray[np.int32]]:
    """Regions from the class probabilities of a network for semantic segmentation.

    Args:
        probabilities: (C, H, W), C at most 256; class 0 is background.
        min_area: connected regions with fewer pixels are no objects; the semantic mask keeps them.

    Returns:
        The most probable class (H, W) uint8; a label image (H, W) uint32 of its connected regions,
        numbered as by `split_instances`; their scores (N,), the mean probability of the class;
        and their class ids (N,).
    """
    semantic = probabilities.argmax(0).astype(np.uint8)
    labels = np.zeros(semantic.shape, np.int32)
    count = 0
    for class_id in np.unique(semantic[semantic > 0]):
        regions, found = ndimage.label(semantic == class_id)
        labels += np.where(regions > 0, regions + count, 0)
        count += found
    label_image, scores = _number(labels, probabilities.max(0), count, min_area)
    class_ids = np.zeros(len(scores) + 1, np.int32)
    class_ids[label_image] = semantic
    return semantic, label_image, scores, class_ids[1:]


def _grow(
    cores: npt.NDArray[np.int32], interior: FloatMap, inside: npt.NDArray[np.bool_]
) -> npt.NDArray[np.int32]:
    """Cores grown over `inside`, from high `interior` to low; 0 where none can reach."""
    labels = np.pad(np.where(inside, cores, -1), 1, constant_values=-1)
    levels = np.pad((np.clip(interior, 0, 1) * (_LEVELS - 1)).astype(np.uint8), 1)
    _flood(labels.ravel(), levels.ravel(), labels.shape[1])
    grown: npt.NDArray[np.int32] = np.maximum(labels[1:-1, 1:-1], 0)
    return grown


@numba.njit(cache=True, nogil=True)
def _flood(labels: npt.NDArray[np.int32], levels: npt.NDArray[np.uint8], width: int) -> None:
    """Watershed by priority flood, in place: give each 0 in `labels` the label that reaches it.

    A pixel is labelled when it is first reached, and waits in the list of its level until the
    flood has come down to it. Lists are first in, first out, so that objects meet halfway on a
    plateau. Pixels of -1 are never entered and surround the image.
    """
    following = np.empty(labels.size, np.int32)
    first = np.full(_LEVELS, -1, np.int32)
    last = np.full(_LEVELS, -1, np.int32)

    for pixel in range(labels.size):
        if labels[pixel] > 0:
            for step in (-width, -1, 1, width):
                if labels[pixel + step] == 0:
                    _wait(pixel, levels[pixel], first, last, following)
                    break
    level = _LEVELS - 1
    while level >= 0:
        pixel = first[level]
        if pixel < 0:
            level -= 1
            continue
        first[level] = following[pixel]
        for step in (-width, -1, 1, width):
            neighbour = pixel + step
            if labels[neighbour] == 0:
                labels[neighbour] = labels[pixel]
                _wait(neighbour, min(level, levels[neighbour]), first, last, following)


@numba.njit(cache=True, nogil=True)
def _wait(pixel: int, level: int, first: Links, last: Links, following: Links) -> None:
    """Put a pixel at the end of the list of its level."""
    if first[level] < 0:
        first[level] = pixel
    else:
        following[last[level]] = pixel
    last[level] = pixel
    following[pixel] = -1


@numba.njit(cache=True, nogil=True)
def _number(
    labels: npt.NDArray[np.int32], probability: FloatMap, count: int, min_area: int
) -> tuple[LabelImage, Scores]:
    """Leave out small objects, number the others by first pixel, average their probability."""
    area = np.zeros(count + 1, np.int64)
    total = np.zeros(count + 1, np.float64)
    height, width = labels.shape
    for y in range(height):
        for x in range(width):
            area[labels[y, x]] += 1
            total[labels[y, x]] += probability[y, x]
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
