"""Stages add up, whatever thread they run in; how long anything takes is not tested."""

from __future__ import annotations

import threading

import pytest

from segpipe.clock import StageClock


def test_a_stage_is_known_by_wall_and_core_seconds() -> None:
    clock = StageClock()
    with clock.stage("decode") as first:
        sum(range(1000))
    with clock.stage("decode") as second:
        pass
    found = clock.seconds()
    assert found["decode"] == pytest.approx(first.seconds + second.seconds, abs=2e-6)
    assert found["decode"] <= found["total"]
    assert 0 <= found["decode_cores"] <= found["total_cores"]


def test_a_stage_that_fails_is_counted() -> None:
    clock = StageClock()
    with pytest.raises(ValueError, match="broken"), clock.stage("decode"):
        raise ValueError("broken")
    assert "decode" in clock.seconds()


def test_what_no_other_stage_did_in_a_thread_of_its_own_was_the_forward_pass() -> None:
    clock = StageClock()

    def compute() -> None:
        sum(range(300_000))

    with clock.stage("forward"):
        of_the_library = threading.Thread(target=compute)
        of_the_library.start()
        of_the_library.join()
    with clock.stage("measure"):
        compute()
    found = clock.seconds()
    expected = found["total_cores"] - found["measure_cores"]
    assert found["forward_cores"] == pytest.approx(expected, abs=3e-6)


def test_waiting_hands_the_items_on_in_order_and_ends_with_them() -> None:
    clock = StageClock()
    taken = clock.taking("wait_for_images", iter([1, 2, 3]))
    assert list(clock.giving("wait_for_room", taken)) == [1, 2, 3]
    assert {"wait_for_images", "wait_for_room"} <= clock.seconds().keys()


def test_an_error_of_the_items_goes_through() -> None:
    def items():
        yield 1
        raise OSError("gone")

    clock = StageClock()
    taken = clock.giving("wait_for_room", clock.taking("wait_for_images", items()))
    assert next(taken) == 1
    with pytest.raises(OSError, match="gone"):
        next(taken)
