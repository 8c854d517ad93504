"""From small masks to a measured label image, and what torchvision takes for the first step."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from segpipe.bench.timing import Timing, timed
from segpipe.masks.paint import paint
from segpipe.masks.paste import paste_masks
from segpipe.masks.rle import encode
from segpipe.measure.properties import measure_objects
from segpipe.records import CroppedMask, Instances, Segmentation
from segpipe.segmenters.dense_paste import paste_densely

SHAPE = (2000, 2000)
SIDES = 40.0, 160.0
"""Of the boxes, in pixels; 500 of them cover the image 1.2 times."""

THRESHOLD = 0.5
GRID = 28
ROUNDING = 1e-6
"""Probabilities nearer to the threshold may fall on either side of it: see `masks.paste`."""

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Pasting:
    """All objects of one image.

    Attributes:
        finish: pasting and painting: `DetectorSegmenter.finish`.
        measure: `measure_objects` on three channels.
        encode: run-length codes of the `hidden` objects.
        torchvision: seconds of pasting alone.
        identical: whether every pixel is the same.
    """

    objects: int
    hidden: int
    finish: Timing
    measure: Timing
    encode: Timing
    torchvision: float
    identical: bool


def measure_pasting(objects: int, rounds: int) -> Pasting:
    """Simulated detections, always the same; torchvision, which takes seconds, has one round."""
    probabilities, boxes = _detections(objects)
    pixels = np.random.default_rng(1).integers(0, 256, (*SHAPE, 3), np.uint8)

    def finish() -> Segmentation:
        masks = paste_masks(probabilities, boxes, SHAPE, THRESHOLD)
        kept = tuple(crop for crop in masks if crop.mask.any())
        scores = np.linspace(1, 0.1, len(kept), dtype=np.float32)
        return paint(Instances(kept, scores, np.ones(len(kept), np.int32)), SHAPE)

    found = finish()
    hidden = list(found.own_masks.values())
    masks = paste_masks(probabilities, boxes, SHAPE, THRESHOLD)
    seconds, identical = _torchvision(masks, probabilities, boxes)
    return Pasting(
        objects=objects,
        hidden=len(hidden),
        finish=timed(finish, rounds),
        measure=timed(lambda: measure_objects(found, pixels), rounds),
        encode=timed(lambda: [encode(mask, SHAPE) for mask in hidden], rounds),
        torchvision=seconds,
        identical=identical,
    )


def _detections(objects: int) -> tuple[FloatArray, FloatArray]:
    """Soft discs of several sizes in boxes all over the image."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[-1 : 1 : GRID * 1j, -1 : 1 : GRID * 1j]
    radius = rng.uniform(0.5, 0.9, (objects, 1, 1))
    discs = 1 / (1 + np.exp(8 * (np.hypot(y, x) - radius)))
    sides = rng.uniform(*SIDES, (objects, 2))
    corners = rng.uniform(0, 1, (objects, 2)) * (np.array(SHAPE[::-1]) - sides)
    boxes = np.concatenate((corners, corners + sides), axis=1)
    return discs.astype(np.float32), boxes.astype(np.float32)


def _torchvision(
    masks: tuple[CroppedMask, ...], probabilities: FloatArray, boxes: FloatArray
) -> tuple[float, bool]:
    """Seconds, and whether it says the same; object by object, as each takes 16 MB."""
    seconds, identical = 0.0, True
    for index, crop in enumerate(masks):
        one = slice(index, index + 1)
        started = time.perf_counter()
        (dense,) = paste_densely(probabilities[one], boxes[one], SHAPE)
        seconds += time.perf_counter() - started
        theirs = dense >= np.float32(THRESHOLD)
        height, width = crop.mask.shape
        inside = slice(crop.y0, crop.y0 + height), slice(crop.x0, crop.x0 + width)
        differs = dense[inside][theirs[inside] != crop.mask]
        identical &= bool(np.all(np.abs(differs - THRESHOLD) < ROUNDING))
        identical &= bool(theirs.sum() == theirs[inside].sum())
    return seconds, identical
