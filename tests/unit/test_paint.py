"""The label image shows the best score; what it hides is kept; labels are numbered by position."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from segpipe.masks.paint import from_label_image, paint, unpaint
from segpipe.records import CroppedMask, Instances

SHAPE = (12, 15)


@st.composite
def crops(draw: st.DrawFn) -> CroppedMask:
    y0, x0 = draw(st.integers(0, SHAPE[0] - 1)), draw(st.integers(0, SHAPE[1] - 1))
    h, w = draw(st.integers(1, SHAPE[0] - y0)), draw(st.integers(1, SHAPE[1] - x0))
    mask = draw(hnp.arrays(np.bool_, (h, w)))
    mask[0, 0] = True
    return CroppedMask(y0, x0, mask)


def instances(masks: list[CroppedMask], **more) -> Instances:
    n = len(masks)
    scores = np.linspace(1, 0.1, n, dtype=np.float32)
    return Instances(tuple(masks), scores, np.arange(1, n + 1, dtype=np.int32), **more)


def dense(masks: list[CroppedMask]) -> np.ndarray:
    full = np.zeros((len(masks), *SHAPE), np.bool_)
    for target, mask in zip(full, masks, strict=True):
        h, w = mask.mask.shape
        target[mask.y0 : mask.y0 + h, mask.x0 : mask.x0 + w] = mask.mask
    return full


@settings(deadline=None)
@given(st.lists(crops(), max_size=8))
def test_each_pixel_shows_its_first_instance(masks: list[CroppedMask]) -> None:
    full = dense(masks)
    shown = paint(instances(masks), SHAPE)
    expected = np.where(full.any(0), full.argmax(0) + 1, 0) if masks else np.zeros(SHAPE)
    assert shown.label_image.dtype == np.uint32
    assert np.array_equal(shown.label_image, expected)


@settings(deadline=None)
@given(st.lists(crops(), max_size=8))
def test_own_masks_are_of_exactly_the_overlapping_objects(masks: list[CroppedMask]) -> None:
    full = dense(masks)
    shared = full.sum(0) > 1
    expected = {i + 1 for i, mask in enumerate(full) if mask[shared].any()}
    segmentation = paint(instances(masks), SHAPE)
    assert set(segmentation.own_masks) == expected
    assert all(segmentation.own_masks[label] is masks[label - 1] for label in expected)


@settings(deadline=None)
@given(st.lists(crops(), max_size=8), st.integers(0, 9), st.integers(0, 9))
def test_what_was_painted_comes_back_whole_where_it_lies_in_the_image(
    masks: list[CroppedMask], y0: int, x0: int
) -> None:
    given_ = instances(masks, saturated=True, n_discarded=2)
    back = unpaint(paint(given_, SHAPE), y0, x0)
    there = [CroppedMask(one.y0 - y0, one.x0 - x0, one.mask) for one in back.masks]
    assert np.array_equal(dense(there), dense(masks))
    assert np.array_equal(back.scores, given_.scores)
    assert np.array_equal(back.class_ids, given_.class_ids)
    assert (back.saturated, back.n_discarded) == (True, 2)


def test_hidden_object_keeps_its_label_and_its_mask() -> None:
    large, small = np.ones((5, 5), np.bool_), np.ones((2, 2), np.bool_)
    masks = [CroppedMask(0, 0, large), CroppedMask(1, 1, small)]
    segmentation = paint(instances(masks, saturated=True, n_discarded=3), SHAPE)
    assert segmentation.n_objects == 2
    assert set(np.unique(segmentation.label_image)) == {0, 1}
    assert set(segmentation.own_masks) == {1, 2}
    assert segmentation.saturated
    assert segmentation.n_discarded == 3


@settings(deadline=None)
@given(
    hnp.arrays(
        st.sampled_from([np.int32, np.uint8, np.uint32, np.int64]),
        hnp.array_shapes(min_dims=2, max_dims=2, max_side=8),
        elements=st.integers(0, 9),
    )
)
def test_labels_are_numbered_by_first_pixel(labels: np.ndarray) -> None:
    segmentation = from_label_image(labels)
    numbered = segmentation.label_image
    appearance = list(dict.fromkeys(labels[labels > 0].tolist()))
    assert segmentation.n_objects == len(appearance)
    assert numbered.dtype == np.uint32
    for new, old in enumerate([0, *appearance]):
        assert np.array_equal(numbered == new, labels == old)
    assert np.isnan(segmentation.scores).all()
    assert segmentation.class_ids.tolist() == [1] * len(appearance)
    assert not segmentation.own_masks


def test_huge_labels_cost_nothing() -> None:
    labels = np.array([[0, 2**63 - 1], [5, 2**63 - 1]])
    assert from_label_image(labels).label_image.tolist() == [[0, 1], [2, 1]]


@pytest.mark.parametrize("labels", [np.array([[0, -1]]), np.array([[0.5]]), np.array([1, 2])])
def test_what_is_no_label_image_is_refused(labels: np.ndarray) -> None:
    with pytest.raises(ValueError, match="label"):
        from_label_image(labels)
