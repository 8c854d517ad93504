"""Masks pasted in their boxes are, pixel for pixel, those that torchvision pastes in the image."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.models.detection.roi_heads import paste_masks_in_image

from segpipe.masks.paste import paste_masks
from segpipe.records import CroppedMask

ROUNDING = 1e-6


def dense(masks: tuple[CroppedMask, ...], shape: tuple[int, int]) -> np.ndarray:
    full = np.zeros((len(masks), *shape), np.bool_)
    for target, mask in zip(full, masks, strict=True):
        h, w = mask.mask.shape
        target[mask.y0 : mask.y0 + h, mask.x0 : mask.x0 + w] = mask.mask
    return full


def assert_as_torchvision(
    probabilities: np.ndarray, boxes: np.ndarray, shape: tuple[int, int], threshold: float
) -> None:
    theirs = paste_masks_in_image(
        torch.from_numpy(probabilities)[:, None], torch.from_numpy(boxes), shape
    )[:, 0].numpy()
    ours = dense(paste_masks(probabilities, boxes, shape, threshold), shape)
    differs = ours != (theirs >= np.float32(threshold))
    # torchvision's own last bit depends on the processor's multiply-add.
    assert np.all(np.abs(theirs[differs] - threshold) < ROUNDING)


@settings(deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.tuples(st.integers(1, 90), st.integers(1, 90)),
    st.sampled_from([0.05, 0.3, 0.5, 0.9]),
    st.sampled_from([2, 14, 28]),
)
def test_pixels_are_those_of_torchvision(seed, shape, threshold, size) -> None:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(0, 6))
    probabilities = rng.random((n, size, size), dtype=np.float32)
    corners = rng.uniform(-10, 1.2 * max(shape), (n, 2, 2))
    boxes = np.concatenate((corners.min(1), corners.max(1)), axis=1).astype(np.float32)
    # As torchvision gives them: clipped to the image.
    boxes = np.clip(boxes, 0, np.array([*shape[::-1], *shape[::-1]], np.float32))
    assert_as_torchvision(probabilities, boxes, shape, threshold)


def test_smooth_masks_on_a_large_image_are_identical() -> None:
    rng = np.random.default_rng(0)
    y, x = np.mgrid[-1:1:28j, -1:1:28j]
    blobs = 1 / (1 + np.exp(8 * (np.hypot(y, x) - rng.uniform(0.4, 0.9, (40, 1, 1)))))
    corner = rng.uniform(0, 600, (40, 2))
    size = rng.uniform(1, 300, (40, 2))
    boxes = np.clip(np.concatenate((corner, corner + size), axis=1), 0, 700).astype(np.float32)
    assert_as_torchvision(blobs.astype(np.float32), boxes, (700, 700), 0.5)


@pytest.mark.parametrize("box", [[3, 3, 3, 3], [0, 0, 0.01, 0.01], [9, 9, 10, 10], [0, 0, 10, 10]])
def test_odd_boxes(box: list[float]) -> None:
    probabilities = np.full((1, 28, 28), 0.75, np.float32)
    assert_as_torchvision(probabilities, np.array([box], np.float32), (10, 10), 0.5)


def test_masks_are_the_size_of_their_boxes() -> None:
    boxes = np.array([[100, 200, 150, 230]], np.float32)
    (mask,) = paste_masks(np.ones((1, 28, 28), np.float32), boxes, (5_000, 5_000), 0.5)
    assert mask.mask.size < 2 * 50 * 30


def test_object_without_a_pixel_is_kept_in_its_place() -> None:
    probabilities = np.stack([np.zeros((28, 28)), np.ones((28, 28))]).astype(np.float32)
    boxes = np.array([[1, 1, 8, 8], [1, 1, 8, 8]], np.float32)
    empty, full = paste_masks(probabilities, boxes, (10, 10), 0.5)
    assert not empty.mask.any()
    assert full.mask.any()
