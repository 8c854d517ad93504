"""Agreement with a truth: definitions, edge cases, and an independent slow computation."""

from __future__ import annotations

import json
from fractions import Fraction
from itertools import permutations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from segpipe.errors import InvariantError
from segpipe.measure.boxes import match_boxes
from segpipe.measure.evaluation import (
    THRESHOLDS,
    Agreement,
    Evaluation,
    match,
    true_positives,
)
from segpipe.measure.matching import segments

label_pairs = hnp.array_shapes(min_dims=2, max_dims=2, max_side=9).flatmap(
    lambda shape: st.tuples(
        *[hnp.arrays(np.uint16, shape, elements=st.sampled_from([0, 1, 2, 3, 900])) for _ in "tp"]
    )
)


def slow_table(truth: npt.NDArray, predicted: npt.NDArray) -> list[list[Fraction]]:
    """IoU of all pairs from dense masks, exact."""
    table = []
    for t in sorted(set(truth[truth > 0].tolist())):
        row = []
        for p in sorted(set(predicted[predicted > 0].tolist())):
            a, b = truth == t, predicted == p
            row.append(Fraction(int((a & b).sum()), int((a | b).sum())))
        table.append(row)
    return table


def slow_true_positives(table: list[list[Fraction]], threshold: Fraction) -> int:
    """Every assignment is tried."""
    if not table or not table[0]:
        return 0
    if len(table) > len(table[0]):
        table = [list(column) for column in zip(*table, strict=True)]
    choices = permutations(range(len(table[0])), len(table))
    return max(
        sum(row[j] >= threshold for row, j in zip(table, choice, strict=True)) for choice in choices
    )


@given(label_pairs)
@settings(deadline=None, max_examples=200)
def test_agrees_with_dense_masks_and_all_assignments(pair) -> None:
    truth, predicted = pair
    table = slow_table(truth, predicted)
    overlaps = match(truth, predicted)
    dense = np.zeros((overlaps.n_truth, overlaps.n_predicted))
    dense[overlaps.truth, overlaps.predicted] = overlaps.iou
    np.testing.assert_array_equal(dense, np.array(table, float).reshape(dense.shape))
    for percent in (10, 25, 33, *range(50, 100, 5)):
        expected = slow_true_positives(table, Fraction(percent, 100))
        assert true_positives(overlaps, percent / 100) == expected, percent


@given(label_pairs)
@settings(deadline=None)
def test_is_symmetric_and_blind_to_label_values(pair) -> None:
    truth, predicted = pair
    renumbered = np.array([0, 70000, 2, 9], np.int64)[np.minimum(predicted, 3)]
    merged = np.minimum(predicted, 3)
    one, other = Agreement.of("", truth, merged), Agreement.of("", truth, renumbered)
    swapped = Agreement.of("", renumbered, truth)
    assert one == other
    assert swapped.true_positives == one.true_positives
    assert swapped.precisions == one.precisions
    assert swapped.dice == one.dice


@given(label_pairs)
@settings(deadline=None)
def test_truth_agrees_with_itself(pair) -> None:
    agreement = Agreement.of("", pair[0], pair[0])
    assert agreement.ap == agreement.dice == 1
    assert agreement.count_error == 0


def row(*labels: int) -> npt.NDArray[np.uint32]:
    return np.array([labels], np.uint32)


def test_empty_cases() -> None:
    nothing, something = row(0, 0), row(0, 1)
    agreed = Agreement.of("", nothing, nothing)
    assert (agreed.ap, agreed.dice, agreed.count_error) == (1, 1, 0)
    missed = Agreement.of("", something, nothing)
    assert (missed.ap, missed.dice, missed.count_error) == (0, 0, -1)
    invented = Agreement.of("", nothing, something)
    assert (invented.ap, invented.dice, invented.count_error) == (0, 0, 1)


def test_iou_of_exactly_a_threshold_counts() -> None:
    # Intersection 11, union 20: 0.55 in decimal, though 0.55 * 20 > 11 in floats.
    truth, predicted = row(*[1] * 20), row(*[1] * 11, *[0] * 9)
    overlaps = match(truth, predicted)
    assert true_positives(overlaps, 0.55) == 1
    assert true_positives(overlaps, 0.6) == 0


def test_an_object_split_in_halves_is_found_once_at_one_half() -> None:
    split = Agreement.of("", row(1, 1, 1, 1), row(1, 1, 2, 2))
    assert split.true_positives == (1, *[0] * 9)
    assert split.precisions[0] == 1 / 2  # TP 1, FP 1, FN 0


def test_most_pairs_win_at_one_half() -> None:
    # Truth 1 fits predictions 1 and 2 at IoU 1/2, truth 2 only prediction 1: two pairs exist.
    truth = row(1, 1, 2)
    predicted = row(2, 1, 1)
    overlaps = match(truth, predicted)
    pairs = dict(zip(zip(overlaps.truth.tolist(), overlaps.predicted.tolist(), strict=True),
                     overlaps.iou.tolist(), strict=True))  # fmt: skip
    assert pairs == {(0, 0): 1 / 3, (0, 1): 1 / 2, (1, 0): 1 / 2}
    assert true_positives(overlaps, 0.5) == 2
    assert true_positives(overlaps, 0.3) == 2


def test_hand_case() -> None:
    truth = row(1, 1, 1, 1, 0, 2, 2, 2, 2, 0, 3, 0)
    predicted = row(5, 5, 5, 0, 0, 6, 6, 6, 6, 0, 0, 7)  # IoU 3/4, 1, none
    agreement = Agreement.of("hand", truth, predicted)
    assert agreement.true_positives == (2, 2, 2, 2, 2, 2, 1, 1, 1, 1)
    assert agreement.precisions[0] == 2 / 4
    assert agreement.precisions[-1] == 1 / 5
    assert agreement.ap == pytest.approx((6 * 2 / 4 + 4 * 1 / 5) / 10)
    assert agreement.dice == 2 * 7 / (9 + 8)


def test_pooled_weighs_by_objects_and_mean_by_images() -> None:
    many = Agreement.of("many", row(1, 2, 3, 4), row(1, 2, 3, 4))
    missed = Agreement.of("missed", row(1, 0, 0, 0), row(0, 0, 0, 0))
    evaluation = Evaluation((many, missed), images_without_truth=3, truth_without_image=2)
    assert evaluation.pooled.ap == pytest.approx(4 / 5)
    assert evaluation.mean_precisions == (0.5,) * len(THRESHOLDS)
    document = json.loads(json.dumps(evaluation.to_dict(), allow_nan=False))
    assert document["pooled"]["ap50"] == pytest.approx(4 / 5)
    assert document["mean_per_image"]["ap"] == pytest.approx(0.5)
    assert document["mean_per_image"]["count_error"] == -0.5
    assert document["mean_per_image"]["absolute_count_error"] == 0.5
    assert (document["images_without_truth"], document["truth_without_image"]) == (3, 2)
    assert [image["name"] for image in document["images"]] == ["many", "missed"]


def test_labels_up_to_32_bits() -> None:
    big = 2**32 - 1
    assert Agreement.of("", row(0, big, big), row(0, 1, 1)).ap == 1
    with pytest.raises(InvariantError, match="allowed are 0 to"):
        match(np.array([[1 << 32]]), np.array([[1]]))
    with pytest.raises(InvariantError, match="-1"):
        match(np.array([[-1]]), np.array([[1]]))


def test_refuses_other_shapes_and_types() -> None:
    with pytest.raises(InvariantError, match="differ in shape"):
        match(row(1, 2), row(1))
    with pytest.raises(InvariantError, match="integers"):
        match(np.ones((1, 1)), row(1))  # type: ignore[arg-type]


def test_thresholds_are_the_decimals() -> None:
    assert [str(threshold) for threshold in THRESHOLDS] == [
        "0.5", "0.55", "0.6", "0.65", "0.7", "0.75", "0.8", "0.85", "0.9", "0.95"
    ]  # fmt: skip


def slow_panoptic(truth, predicted, void, crowd) -> tuple[float, int, int, int]:
    """Sum of IoU, TP, FP, FN, from dense masks as the panoptic task of COCO counts them."""
    iou_sum, matched_truth, matched_found = 0.0, set(), set()
    for t in set(truth[truth > 0].tolist()):
        for p in set(predicted[predicted > 0].tolist()):
            a, b = truth == t, (predicted == p) & ~void
            iou = (a & b).sum() / (a | b).sum()
            if iou > 0.5:
                iou_sum += iou
                matched_truth.add(t)
                matched_found.add(p)
    missed = set(truth[truth > 0].tolist()) - matched_truth
    wrong = {
        p
        for p in set(predicted[predicted > 0].tolist()) - matched_found
        if (void | crowd)[predicted == p].mean() <= 0.5
    }
    return iou_sum, len(matched_truth), len(wrong), len(missed)


regions = label_pairs.flatmap(
    lambda pair: st.tuples(
        st.just(pair), hnp.arrays(np.uint8, pair[0].shape, elements=st.integers(0, 2))
    )
)


@given(regions)
@settings(deadline=None, max_examples=200)
def test_panoptic_quality_agrees_with_dense_masks(case) -> None:
    (truth, predicted), region = case
    void, crowd = (region == 1) & (truth == 0), region == 2
    agreement = Agreement.of("", truth, predicted, void, crowd)
    iou_sum, tp, fp, fn = slow_panoptic(truth, predicted, void, crowd)
    assert agreement.segment_iou == pytest.approx(iou_sum)
    assert (agreement.n_segments, agreement.n_truth) == (tp, tp + fn)
    assert agreement.n_predicted == tp + fp
    assert agreement.n_predicted + agreement.n_excused == len(
        set(predicted[predicted > 0].tolist())
    )
    if tp + fp + fn:
        assert agreement.pq == pytest.approx(iou_sum / (tp + fp / 2 + fn / 2))
        assert agreement.sq == (pytest.approx(iou_sum / tp) if tp else 0)
    else:
        assert agreement.pq == 1


def test_what_lies_in_a_crowd_or_in_the_unknown_is_excused_unless_it_matches() -> None:
    truth, predicted = row(1, 1, 0, 0, 0, 0), row(5, 5, 5, 5, 5, 8)
    void = np.array([[False, False, True, True, True, False]])
    nothing = np.zeros_like(void)
    assert Agreement.of("", truth, predicted).precisions[0] == 0  # IoU 2/5; 8 is wrong
    known = Agreement.of("", truth, predicted, void)
    assert (known.pq, known.precisions[-1], known.n_excused) == (2 / 3, 1 / 2, 0)
    excused = Agreement.of("", truth, predicted, nothing, void)
    assert (excused.n_predicted, excused.n_excused, excused.n_truth) == (1, 1, 1)
    assert excused.count_error == 0


boxes = st.lists(st.tuples(*[st.integers(0, 6)] * 2, *[st.integers(1, 4)] * 2), max_size=4).map(
    lambda rows: np.array([(x, y, x + w, y + h) for x, y, w, h in rows], float).reshape(-1, 4)
)


@given(boxes, boxes)
@settings(deadline=None)
def test_boxes_agree_with_the_masks_that_they_fill(truth, predicted) -> None:
    def filled(all_boxes) -> list[npt.NDArray]:
        planes = []
        for x0, y0, x1, y1 in all_boxes.astype(int):
            plane = np.zeros((10, 10), bool)
            plane[y0:y1, x0:x1] = True
            planes.append(plane)
        return planes

    table = [
        [Fraction(int((a & b).sum()), int((a | b).sum())) for b in filled(predicted)]
        for a in filled(truth)
    ]
    nothing = np.zeros((1, 1), bool)
    overlaps = match_boxes(truth, predicted, nothing, nothing)
    for percent in (25, 50, 75):
        expected = slow_true_positives(table, Fraction(percent, 100))
        assert true_positives(overlaps, percent / 100) == expected
    best = max(
        (
            sum(line[j] for line, j in zip(wide, choice, strict=True) if line[j] > Fraction(1, 2))
            for wide in [table if len(truth) <= len(predicted) else list(zip(*table, strict=True))]
            for choice in permutations(range(max(len(truth), len(predicted))), len(wide))
        ),
        default=0,
    )
    matched, iou = segments(overlaps)
    assert sum(iou) == pytest.approx(float(best))
    assert len(set(matched.tolist())) == len(matched)
