"""Stages that overlap give what they give one after the other, within bounds of number and size."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segpipe.overlap import overlap

WEIGHTS = st.lists(st.integers(0, 12), max_size=30)


@given(st.lists(st.integers()), st.integers(0, 3))
def test_order_and_content_are_kept(items: list[int], ahead: int) -> None:
    assert list(overlap(iter(items), ahead)) == items


class Scale:
    """Weighs items, and can wait until a number of them was weighed."""

    def __init__(self) -> None:
        self.weighed = 0
        self.changed = threading.Condition()

    def weigh(self, weight: int) -> int:
        with self.changed:
            self.weighed += 1
            self.changed.notify()
        return weight

    def wait_for(self, count: int) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: self.weighed >= count, 10), "it lags behind"
            assert self.weighed == count, "it is too far ahead"


@given(WEIGHTS, st.integers(1, 4), st.integers(0, 20))
def test_as_much_waits_as_the_bounds_allow_and_no_more(
    weights: list[int], ahead: int, budget: int
) -> None:
    """A longer queue costs memory, a shorter one the overlap; one item waits whatever it weighs."""
    scale = Scale()
    for taken, weight in enumerate(overlap(iter(weights), ahead, scale.weigh, budget), start=1):
        assert weight == weights[taken - 1]
        waiting = weights[taken : taken + 1]
        for more in weights[taken + 1 :]:
            if len(waiting) == ahead or sum(waiting) + more > budget:
                break
            waiting.append(more)
        in_hand = 1
        scale.wait_for(min(taken + len(waiting) + in_hand, len(weights)))
    assert scale.weighed == len(weights)


@pytest.mark.parametrize("ahead", [0, 2])
def test_an_error_comes_at_its_place(ahead: int) -> None:
    def produce() -> Iterator[int]:
        yield 1
        raise OSError("disk")

    items = overlap(produce(), ahead)
    assert next(items) == 1
    with pytest.raises(OSError, match="disk"):
        next(items)


def test_the_producer_waits_when_the_queue_is_full() -> None:
    made = []
    full = threading.Event()

    def produce() -> Iterator[int]:
        for number in range(100):
            made.append(number)
            if number == 3:
                full.set()
            yield number

    items = overlap(produce(), 2)
    assert next(items) == 0
    assert full.wait(10)
    # One handed out, two waiting, one in the producer's hand.
    assert made == [0, 1, 2, 3]
    items.close()  # type: ignore[attr-defined]


@pytest.mark.parametrize("budget", [0, 10])
def test_a_consumer_that_stops_ends_the_producer(budget: int) -> None:
    """Whether it is held up by the number of what waits or by its weight."""
    closed = threading.Event()

    def produce() -> Iterator[int]:
        try:
            yield from range(1_000_000)
        finally:
            closed.set()

    items = overlap(produce(), 2, lambda number: number, budget)
    next(items)
    items.close()  # type: ignore[attr-defined]
    assert closed.is_set()


def test_what_was_handed_on_is_let_go() -> None:
    """The producer holds nothing but what it has not handed on."""

    class Large:
        alive = 0

        def __init__(self) -> None:
            Large.alive += 1

        def __del__(self) -> None:
            Large.alive -= 1

    alive = []

    def produce() -> Iterator[Large]:
        for _ in range(5):
            alive.append(Large.alive)
            yield Large()

    for item in overlap(produce(), 1):
        del item
    assert max(alive) <= 2, alive
