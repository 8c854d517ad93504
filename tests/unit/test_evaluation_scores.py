"""Numbers of sets of images: the same as the records of single images, and their intervals."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from segpipe.errors import InvariantError
from segpipe.measure.bootstrap import bootstrap_interval
from segpipe.measure.evaluation import THRESHOLDS, Agreement, Evaluation
from segpipe.measure.scores import Scores, estimate, instance_scores, semantic_scores
from segpipe.measure.semantic import SemanticAgreement

CLASSES = 3
label_images = hnp.arrays(np.uint8, (4, 5), elements=st.integers(0, 3))
objects = st.dictionaries(
    st.integers(0, CLASSES - 1), st.tuples(label_images, label_images), max_size=CLASSES
)


@given(st.lists(st.tuples(objects, st.integers(0, 2)), min_size=1, max_size=4))
@settings(deadline=None, max_examples=60)
def test_instances_agree_with_pooled_records(case) -> None:
    images = [{c: Agreement.of("", *pair) for c, pair in image.items()} for image, _ in case]
    times = [n for _, n in case] if any(n for _, n in case) else [1] * len(case)
    scores = instance_scores(images, CLASSES)
    values = scores.values(np.array([times], float))[0]
    found = dict(zip(scores.keys, values, strict=True))

    drawn = [image for image, n in zip(images, times, strict=True) for _ in range(n)]
    whole = Evaluation(tuple(Agreement.pool("", list(image.values())) for image in drawn))
    summary = whole.to_dict()["mean_per_image"]
    for k, threshold in enumerate(THRESHOLDS):
        name = f"ap{round(100 * threshold)}"
        assert found[name, None] == pytest.approx(whole.pooled.precisions[k])
        assert found[f"mean_{name}", None] == pytest.approx(whole.mean_precisions[k])
    assert found["ap", None] == pytest.approx(whole.pooled.ap)
    assert found["dice", None] == pytest.approx(whole.pooled.dice)
    for name in ("ap", "dice", "count_error", "absolute_count_error"):
        assert found[f"mean_{name}", None] == pytest.approx(summary[name])

    by_class = [Agreement.pool("", [one[c] for one in drawn if c in one]) for c in range(CLASSES)]
    used = [one for one in by_class if one.n_truth + one.n_predicted]
    for c, one in enumerate(by_class):
        for name in ("ap", "pq", "sq", "rq", "dice"):
            if one in used:
                assert found[name, c] == pytest.approx(getattr(one, name))
            else:
                assert np.isnan(found[name, c])
    for name in ("pq", "sq", "rq"):
        expected = np.mean([getattr(one, name) for one in used]) if used else 1
        assert found[name, None] == pytest.approx(expected)


class_images = hnp.arrays(np.uint8, (3, 4), elements=st.sampled_from([0, 1, 3]))


@given(st.lists(st.tuples(class_images, class_images, st.integers(0, 2)), min_size=1, max_size=4))
@settings(deadline=None, max_examples=60)
def test_classes_agree_with_pooled_records(case) -> None:
    images = [SemanticAgreement.of("", truth, found, 4) for truth, found, _ in case]
    times = [n for *_, n in case] if any(n for *_, n in case) else [1] * len(case)
    scores = semantic_scores(images)
    found = dict(zip(scores.keys, scores.values(np.array([times], float))[0], strict=True))

    drawn = [image for image, n in zip(images, times, strict=True) for _ in range(n)]
    pooled = SemanticAgreement.pool("", drawn)
    assert found["dice", None] == pytest.approx(pooled.mean_dice)
    assert found["iou", None] == pytest.approx(pooled.mean_iou)
    assert found["mean_dice", None] == pytest.approx(np.mean([one.mean_dice for one in drawn]))
    for c in range(4):
        for name in ("dice", "iou", "precision", "recall"):
            used = pooled.truth_pixels[c] + pooled.predicted_pixels[c] > 0
            expected = getattr(pooled, name)[c] if used else np.nan
            assert found[name, c] == pytest.approx(expected, nan_ok=True)
        own = [one.dice[c] for one in drawn if one.truth_pixels[c] + one.predicted_pixels[c]]
        assert found["mean_dice", c] == pytest.approx(np.mean(own) if own else np.nan, nan_ok=True)


def mean_of(values: list[float]) -> Scores:
    column = np.array(values)

    def means(weights: np.ndarray) -> np.ndarray:
        return (weights @ column / weights.sum(axis=1))[:, None]

    return Scores((("mean", None),), means)


def interval_of(values: list[float], units: list[str] | None = None, seed: int = 0, **more: int):
    return bootstrap_interval(mean_of(values).values, units or range(len(values)), seed, **more)


def test_the_interval_of_a_mean_is_that_of_theory() -> None:
    values = np.random.default_rng(3).normal(size=400).tolist()
    ((low, high),) = interval_of(values, resamples=4000)
    error = np.std(values) / 20
    assert low == pytest.approx(np.mean(values) - 1.96 * error, abs=0.1 * error)
    assert high == pytest.approx(np.mean(values) + 1.96 * error, abs=0.1 * error)


def test_a_seed_decides_and_other_seeds_differ() -> None:
    values = [float(value) for value in range(20)]
    np.testing.assert_array_equal(interval_of(values, seed=5), interval_of(values, seed=5))
    assert (interval_of(values, seed=5) != interval_of(values, seed=6)).any()


def test_images_of_a_subject_are_drawn_together() -> None:
    """Ten images of each of six subjects that differ only between subjects."""
    values = [float(subject) for subject in range(6) for _ in range(10)]
    units = [str(int(value)) for value in values]
    ((low, high),) = interval_of(values, units)
    ((narrow_low, narrow_high),) = interval_of(values)
    assert high - low > 2 * (narrow_high - narrow_low)
    # Each sample is a mean of six whole subjects.
    assert low * 6 == pytest.approx(round(low * 6), abs=0.2)


def test_one_unit_says_nothing_of_how_units_differ() -> None:
    assert interval_of([1.0, 2.0], ["a", "a"]) is None


def test_numbers_of_some_images() -> None:
    scores = mean_of([1.0, 2.0, 30.0, 50.0])
    chosen = np.array([False, False, True, True])
    one = estimate(scores, chosen, "abcd", 0, 200, 0.95)["mean", None]
    assert one.value == 40
    assert (one.low, one.high) == (30, 50)
    plain = estimate(scores, chosen, "abcd", 0, 0, 0.95)["mean", None]
    assert (plain.value, plain.low, plain.high) == (40, None, None)
    single = estimate(scores, chosen, "aabb", 0, 200, 0.95)["mean", None]
    assert (single.value, single.low) == (40, None)


def test_undefined_samples_are_left_out() -> None:
    def only_with_the_first(weights: np.ndarray) -> np.ndarray:
        value = np.where(weights[:, 0] > 0, weights[:, 0], np.nan)
        return np.stack([value, np.full(len(weights), np.nan)], axis=1)

    ends = bootstrap_interval(only_with_the_first, range(3), 0)
    assert ends[0].min() == 1
    assert np.isnan(ends[1]).all()


def test_refuses_no_level() -> None:
    with pytest.raises(InvariantError, match=r"level 1\.5"):
        bootstrap_interval(mean_of([1.0]).values, range(1), 0, level=1.5)
