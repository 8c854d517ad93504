"""Agreement of class images, against pixel sets and against segmentation_models_pytorch."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from segpipe.errors import InvariantError
from segpipe.measure.semantic import SemanticAgreement

N = 4

class_pairs = hnp.array_shapes(min_dims=2, max_dims=2, max_side=7).flatmap(
    lambda shape: st.tuples(
        *[hnp.arrays(np.uint8, shape, elements=st.sampled_from([0, 1, 3])) for _ in "tp"]
    )
)


def pixels_of(image: np.ndarray, class_id: int) -> set[tuple[int, int]]:
    return {place for place, value in np.ndenumerate(image) if value == class_id}


@given(class_pairs)
@settings(deadline=None)
def test_agrees_with_sets_of_pixels(pair) -> None:
    agreement = SemanticAgreement.of("", *pair, N)
    means = []
    for c in range(N):
        true, found = pixels_of(pair[0], c), pixels_of(pair[1], c)
        both, either = true & found, true | found
        dice = 2 * len(both) / (len(true) + len(found)) if either else 1
        assert agreement.dice[c] == dice
        assert agreement.iou[c] == (len(both) / len(either) if either else 1)
        assert agreement.precision[c] == (len(both) / len(found) if found else 1)
        assert agreement.recall[c] == (len(both) / len(true) if true else 1)
        means += [dice] if either and c else []
    assert agreement.mean_dice == pytest.approx(np.mean(means) if means else 1)


def test_agrees_with_segmentation_models_pytorch() -> None:
    metrics = pytest.importorskip("segmentation_models_pytorch").metrics
    import torch

    rng = np.random.default_rng(0)
    truth, predicted = rng.integers(0, N, (2, 3, 20, 30))
    images = [SemanticAgreement.of("", *one, N) for one in zip(truth, predicted, strict=True)]
    counts = metrics.get_stats(
        torch.from_numpy(predicted), torch.from_numpy(truth), mode="multiclass", num_classes=N
    )
    for image, own in zip(images, zip(*counts, strict=True), strict=True):
        for name, function in (
            ("dice", metrics.f1_score),
            ("iou", metrics.iou_score),
            ("precision", metrics.precision),
            ("recall", metrics.recall),
        ):
            expected = function(*(one[None] for one in own), reduction="none")[0]
            np.testing.assert_allclose(getattr(image, name), expected, rtol=1e-6)


@given(st.lists(class_pairs, min_size=1, max_size=4))
@settings(deadline=None)
def test_a_pool_is_one_image_of_all_pixels(pairs) -> None:
    pooled = SemanticAgreement.pool("", [SemanticAgreement.of("", *pair, N) for pair in pairs])
    rows = (
        np.concatenate([image.ravel() for image in side])[None] for side in zip(*pairs, strict=True)
    )
    np.testing.assert_array_equal(pooled.confusion, SemanticAgreement.of("", *rows, N).confusion)


def test_nothing_to_find_is_no_mistake() -> None:
    empty, one = np.zeros((1, 2), int), np.array([[0, 1]])
    assert SemanticAgreement.of("", empty, empty, 2).mean_dice == 1
    invented = SemanticAgreement.of("", empty, one, 2)
    assert (invented.dice[1], invented.precision[1], invented.recall[1]) == (0, 0, 1)
    missed = SemanticAgreement.of("", one, empty, 2)
    assert (missed.dice[1], missed.precision[1], missed.recall[1]) == (0, 1, 0)


def test_absent_classes_do_not_lift_the_mean() -> None:
    truth, predicted = np.array([[1, 1, 0]]), np.array([[1, 0, 0]])
    agreement = SemanticAgreement.of("", truth, predicted, 9)
    assert agreement.mean_dice == agreement.dice[1] == pytest.approx(2 / 3)


def test_json_names_every_class_even_with_one_name_twice() -> None:
    agreement = SemanticAgreement.of("a", np.array([[0, 1, 2]]), np.array([[0, 1, 1]]), 3)
    document = json.loads(json.dumps(agreement.to_dict(("background", "fluid", "fluid"))))
    assert [one["class_id"] for one in document["classes"]] == [0, 1, 2]
    assert [one["truth_pixels"] for one in document["classes"]] == [1, 1, 1]
    assert document["classes"][1]["precision"] == 0.5


def test_refuses_what_is_no_class_image() -> None:
    fine = np.zeros((2, 2), int)
    for truth, predicted, message in (
        (fine, np.zeros((2, 3), int), "differ in shape"),
        (fine + 3, fine, "truth with classes 3 to 3; allowed are 0 to 2"),
        (fine, fine - 1, "prediction with classes -1"),
        (fine, fine.astype(float), "integers"),
    ):
        with pytest.raises(InvariantError, match=message):
            SemanticAgreement.of("", truth, predicted, 3)
