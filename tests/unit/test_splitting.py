"""Maps become the objects that they draw, split where the dip between two is deep enough."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from skimage.measure import label
from skimage.morphology import local_maxima, reconstruction
from skimage.segmentation import watershed

from segpipe.segmenters.splitting import classes_of, regions_of, split_instances
from segpipe.spec import UNetOptions

KEEP_ALL = UNetOptions(min_area=1)


def discs(shape: tuple[int, int], *circles: tuple[float, float, float]) -> np.ndarray:
    """Depth maps of (y, x, radius), the deepest on top: (N, H, W), 1 in the middle, < 0 outside."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    return np.stack([1 - np.hypot(y - cy, x - cx) / r for cy, cx, r in circles])


def maps_of(depths: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Truth, and the foreground and distance that a perfect network would draw of it."""
    distance = np.clip(depths.max(0), 0, 1).astype(np.float32)
    truth = np.where(distance > 0, depths.argmax(0) + 1, 0)
    return truth, np.where(truth > 0, 0.9, 0.1).astype(np.float32), distance


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / (a | b).sum())


def random_maps(seed: int, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    smooth = ndimage.gaussian_filter(rng.standard_normal((3, *shape)), (0, 1.5, 1.5))
    foreground, distance, edge = (0.5 + 1.5 * smooth).clip(0, 1).astype(np.float32)
    return foreground, distance, edge


def test_touching_discs_are_told_apart() -> None:
    truth, foreground, distance = maps_of(discs((40, 60), (20, 20, 12), (20, 41, 12)))
    labels, _ = split_instances(foreground, distance, np.zeros_like(distance), UNetOptions())
    assert labels.dtype == np.uint32
    assert labels.max() == 2
    assert iou(labels == 1, truth == truth[20, 20]) > 0.95
    assert iou(labels == 2, truth == truth[20, 41]) > 0.95


def test_a_drawn_edge_splits_what_distance_does_not() -> None:
    foreground = np.zeros((20, 41), np.float32)
    foreground[4:16, 4:37] = 0.9
    edge = np.zeros_like(foreground)
    edge[:, 19:22] = 1.0
    options = UNetOptions(edge_weight=1.0)
    together, _ = split_instances(foreground, foreground, np.zeros_like(edge), options)
    apart, _ = split_instances(foreground, foreground, edge, options)
    assert together.max() == 1
    assert apart.max() == 2
    assert np.array_equal(apart > 0, foreground > 0.5)


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(1, 40))
def test_objects_cover_the_foreground_and_are_connected(seed: int, height: int, width: int) -> None:
    foreground, distance, edge = random_maps(seed, (height, width))
    labels, scores = split_instances(foreground, distance, edge, KEEP_ALL)
    assert np.array_equal(labels > 0, foreground > 0.5)
    for number in range(1, len(scores) + 1):
        assert ndimage.label(labels == number)[1] == 1


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 30))
def test_numbers_follow_the_first_pixels_and_scores_are_means(seed: int, min_area: int) -> None:
    foreground, distance, edge = random_maps(seed, (37, 29))
    options = UNetOptions(min_area=min_area, edge_weight=0.5)
    labels, scores = split_instances(foreground, distance, edge, options)
    present, first = np.unique(labels[labels > 0], return_index=True)
    assert np.array_equal(present, np.arange(1, len(scores) + 1))
    assert np.all(np.diff(first) > 0)
    for number, score in zip(present, scores, strict=True):
        assert (labels == number).sum() >= min_area
        assert score == pytest.approx(foreground[labels == number].mean(), abs=1e-6)


def test_small_objects_are_left_out_and_others_renumbered() -> None:
    foreground = np.zeros((12, 30), np.float32)
    foreground[2:4, 2:4] = 0.9  # 4 pixels
    foreground[2:10, 10:20] = 0.9
    zeros = np.zeros_like(foreground)
    labels, scores = split_instances(foreground, zeros, zeros, UNetOptions(min_area=5))
    assert len(scores) == 1
    assert np.array_equal(labels == 1, np.pad(np.ones((8, 10), bool), ((2, 2), (10, 10))))


def test_a_dip_splits_when_it_is_deep_enough() -> None:
    distance = np.tile(np.float32([0.2, 0.5, 0.8, 0.6, 0.9, 0.5, 0.2]), (5, 1))
    foreground, edge = np.ones_like(distance), np.zeros_like(distance)

    def count(min_depth: float) -> int:
        options = UNetOptions(min_depth=min_depth, min_area=1)
        return len(split_instances(foreground, distance, edge, options)[1])

    assert count(0.15) == 2  # the dip is 0.2 below the lower top
    assert count(0.25) == 1


def test_agrees_with_the_watershed_of_scikit_image() -> None:
    rng = np.random.default_rng(5)
    circles = np.column_stack((rng.uniform(0, 200, (60, 2)), rng.uniform(8, 16, 60)))
    _, foreground, distance = maps_of(discs((200, 200), *map(tuple, circles)))
    options = UNetOptions(min_depth=0.3, min_area=1)
    ours, _ = split_instances(foreground, distance, np.zeros_like(distance), options)
    levels = np.floor(distance * 255).astype(int)
    shaved = reconstruction(levels - math.ceil(0.3 * 255) + 1, levels)
    tops, count = label(local_maxima(shaved, connectivity=1), connectivity=1, return_num=True)
    theirs = watershed(-levels, tops, mask=foreground > 0.5)
    pairs = np.unique(np.stack((ours, theirs)).reshape(2, -1), axis=1, return_counts=True)[1]
    assert 30 < ours.max() == count
    # Each of our objects is one of theirs, apart from ties along the seams.
    assert np.sort(pairs)[::-1][: count + 1].sum() > 0.98 * ours.size


@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (7, 1), (64, 64)])
@pytest.mark.parametrize("value", [0.0, 1.0])
def test_nothing_and_everything(shape: tuple[int, int], value: float) -> None:
    full = np.full(shape, value, np.float32)
    labels, scores = split_instances(full, full, np.zeros_like(full), KEEP_ALL)
    assert labels.shape == shape
    assert labels.min() == labels.max() == len(scores) == (1 if value else 0)


def test_classes_become_connected_regions_with_their_class() -> None:
    probabilities = np.full((3, 20, 30), 0.1, np.float32)
    probabilities[2, 2:8, 2:8] = 0.8
    probabilities[1, 10:18, 10:20] = 0.7
    probabilities[1, 2, 28] = 0.9  # one pixel: in the mask, but no object
    probabilities[0] = 1 - probabilities[1:].sum(0)
    semantic, confidence = classes_of(probabilities, 0.5)
    labels, scores, class_ids = regions_of(semantic, confidence, min_area=4)
    assert semantic.dtype == np.uint8
    assert np.array_equal(semantic, probabilities.argmax(0))
    assert semantic[2, 28] == 1
    assert labels[2, 28] == 0
    assert class_ids.tolist() == [2, 1]
    assert scores == pytest.approx([0.8, 0.7])
    assert np.array_equal(labels == 1, semantic == 2)


def test_a_lower_threshold_gives_a_pixel_to_the_best_class_that_is_no_background() -> None:
    probabilities = np.array([0.6, 0.1, 0.3], np.float32).reshape(3, 1, 1)
    assert classes_of(probabilities, 0.5)[0].item() == 0
    assert classes_of(probabilities, 0.35)[0].item() == 2
