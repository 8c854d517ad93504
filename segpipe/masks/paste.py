"""The small masks of Mask R-CNN (He et al., ICCV 2017) to masks in the image.

torchvision pastes each small mask into a float image of the full size, N x H x W in all. Here the
work is done in each object's box only, with the same geometry: the mask gets a border of one zero,
the box grows in proportion and is cut down to whole pixels, and the mask is interpolated to it
(bilinear, pixel centres). Sums are of float32 in one order on every machine, so that only
probabilities within a rounding error (1e-6) of the threshold may fall on the other side of it
than they do in torchvision, whose own sums differ between processors.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from segpipe.compiled import compiled
from segpipe.geometry import Box
from segpipe.records import CroppedMask

FloatArray = npt.NDArray[np.float32]

_BORDER = 1


def paste_masks(
    probabilities: FloatArray, boxes_xyxy: FloatArray, shape: tuple[int, int], threshold: float
) -> tuple[CroppedMask, ...]:
    """Each object's mask, `probability >= threshold`, cropped to its box.

    Args:
        probabilities: (N, S, S) float32 in [0, 1], a mask in the frame of each box.
        boxes_xyxy: (N, 4) float32, finite, in pixels of the image; may reach out of it.
        shape: (H, W) of the image.
        threshold: above 0; at 0 every pixel of the grown boxes belongs to the object.

    Returns:
        N masks inside the image; one may be without a pixel, where its object has none.
    """
    padded = np.pad(probabilities, ((0, 0), (_BORDER, _BORDER), (_BORDER, _BORDER)))
    grown = _grow(boxes_xyxy, np.float32(padded.shape[-1] / probabilities.shape[-1]))
    return tuple(
        _paste(mask, Box(y0, x0, max(y1, y0) + 1, max(x1, x0) + 1), shape, np.float32(threshold))
        for mask, (x0, y0, x1, y1) in zip(padded, grown.tolist(), strict=True)
    )


def _grow(boxes: FloatArray, scale: np.float32) -> npt.NDArray[np.int64]:
    """Boxes scaled about their centres, then towards zero to whole pixels (ends are inclusive)."""
    low, high = boxes[:, :2], boxes[:, 2:]
    half = (high - low) * np.float32(0.5) * scale
    centre = (high + low) * np.float32(0.5)
    return np.concatenate((centre - half, centre + half), axis=1).astype(np.int64)


def _paste(
    mask: FloatArray, box: Box, shape: tuple[int, int], threshold: np.float32
) -> CroppedMask:
    inside = box.clip(shape)
    pixels = np.empty((inside.height, inside.width), np.bool_)
    y, x = inside.y0 - box.y0, inside.x0 - box.x0
    _interpolate(mask, box.height, box.width, y, x, threshold, pixels)
    return CroppedMask(inside.y0, inside.x0, pixels)


@compiled
def _interpolate(
    mask: FloatArray,
    height: int,
    width: int,
    y0: int,
    x0: int,
    threshold: np.float32,
    pixels: npt.NDArray[np.bool_],
) -> None:
    """Whether a square mask, enlarged to `height` x `width`, reaches the threshold.

    Args:
        mask: (S, S).
        y0, x0: where `pixels` begins in the enlarged mask.
        pixels: (h, w), written.
    """
    one = np.float32(1)
    left, right, x_weight = _samples(width, x0, pixels.shape[1], len(mask))
    above, below, y_weight = _samples(height, y0, pixels.shape[0], len(mask))
    rows = np.empty((len(mask), pixels.shape[1]), np.float32)
    for y in range(len(mask)):
        for x in range(pixels.shape[1]):
            first = mask[y, left[x]] * (one - x_weight[x])
            rows[y, x] = first + mask[y, right[x]] * x_weight[x]
    for y in range(pixels.shape[0]):
        upper, lower, weight = rows[above[y]], rows[below[y]], y_weight[y]
        for x in range(pixels.shape[1]):
            pixels[y, x] = upper[x] * (one - weight) + lower[x] * weight >= threshold


@compiled
def _samples(
    length: int, start: int, count: int, size: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], FloatArray]:
    """Along one axis: the two mask pixels next to each image pixel, and the second one's weight."""
    first = np.empty(count, np.int64)
    second = np.empty(count, np.int64)
    weight = np.empty(count, np.float32)
    scale, half = np.float32(size / length), np.float32(0.5)
    for i in range(count):
        source = max(scale * (np.float32(start + i) + half) - half, np.float32(0))
        first[i] = int(source)
        second[i] = min(first[i] + 1, size - 1)
        weight[i] = source - np.float32(first[i])
    return first, second, weight
