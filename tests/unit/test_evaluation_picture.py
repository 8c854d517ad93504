"""Which images a figure of an evaluation shows."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from segpipe.measure.evaluation import Agreement
from segpipe.measure.semantic import SemanticAgreement
from segpipe.report.evaluation_picture import choose


def agreement(name: str, found: int) -> Agreement:
    """Of four true objects, `found` are found."""
    truth = np.arange(1, 5)[None]
    return Agreement.of(name, truth, np.where(truth <= found, truth, 0))


EMPTY = Agreement.of("empty", np.zeros((1, 1), int), np.zeros((1, 1), int))


def test_worst_median_and_best() -> None:
    images = [agreement("b", 2), EMPTY, agreement("c", 4), agreement("a", 1), agreement("d", 3)]
    assert choose(images) == {"worst": 3, "median": 0, "best": 2}


def test_few_images_are_shown_once() -> None:
    assert choose([agreement("a", 3)]) == {"worst": 0}
    assert choose([agreement("a", 3), agreement("b", 1)]) == {"worst": 1, "best": 0}
    assert choose([EMPTY, EMPTY]) == {"worst": 0, "best": 1}


def test_scans_without_anything_are_no_examples() -> None:
    empty, half = np.zeros((1, 2), int), np.array([[0, 1]])
    images = [
        SemanticAgreement.of("empty", empty, empty, 2),
        SemanticAgreement.of("invented", empty, half, 2),
        SemanticAgreement.of("right", half, half, 2),
    ]
    assert choose(images) == {"worst": 1, "best": 2}


@given(st.lists(st.integers(0, 4), min_size=3))
def test_their_order_is_that_of_their_numbers(found: list[int]) -> None:
    images = [agreement(str(i), n) for i, n in enumerate(found)]
    chosen = choose(images)
    numbers = [images[i].ap for i in chosen.values()]
    assert numbers == sorted(numbers)
    assert numbers[0] == min(image.ap for image in images)
    assert numbers[-1] == max(image.ap for image in images)
