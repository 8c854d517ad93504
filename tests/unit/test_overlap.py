"""Stages that overlap give what they give one after the other."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segpipe.overlap import overlap


@given(st.lists(st.integers()), st.integers(0, 3))
def test_order_and_content_are_kept(items: list[int], ahead: int) -> None:
    assert list(overlap(iter(items), ahead)) == items


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


def test_a_consumer_that_stops_ends_the_producer() -> None:
    closed = threading.Event()

    def produce() -> Iterator[int]:
        try:
            yield from range(1_000_000)
        finally:
            closed.set()

    items = overlap(produce(), 2)
    next(items)
    items.close()  # type: ignore[attr-defined]
    assert closed.is_set()
