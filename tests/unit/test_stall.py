"""The alarm of a run that commits nothing: on a clock that the test winds."""

from __future__ import annotations

import threading
from typing import Any

from segpipe.flows.stall import StallWatch, stall_alarm

STILL, MOVES = "nothing was committed for", "moves again"


def said_at(looks: list[float], moves: dict[float, float], limit: float = 60) -> list[str]:
    """What is told by looks at these times; `moves`: before the look at a time, moved at."""
    said: list[str] = []
    watch = StallWatch(limit, said.append, 0)
    for now in looks:
        watch.moved = moves.get(now, watch.moved)
        watch.look(now)
    return said


def test_a_run_that_commits_often_enough_raises_no_alarm() -> None:
    looks = [float(now) for now in range(0, 600, 10)]
    assert said_at(looks, {now: now for now in looks if now % 50 == 0}) == []


def test_a_stall_is_told_once() -> None:
    (text,) = said_at([30, 59, 60, 70, 6000], {})
    assert text.startswith(f"{STILL} 1 minutes")


def test_a_second_stall_is_told_again_and_its_end_too() -> None:
    said = said_at([61, 100, 200, 201, 300], {100: 90, 201: 201})
    assert [MOVES in text for text in said] == [False, True, False, True, False]


def test_the_alarm_comes_while_the_run_goes_on_and_ends_with_it() -> None:
    now = 0.0
    told, looking = threading.Event(), threading.Semaphore(0)
    said: list[str] = []

    def say(text: str) -> None:
        said.append(text)
        told.set()

    def wait(ended: threading.Event) -> bool:
        looking.acquire()
        return ended.is_set()

    progress: Any = None
    with stall_alarm(1.0, say, lambda: now, wait) as observe:
        observe(progress)
        now = 61.0
        looking.release()
        assert told.wait(30)
        assert STILL in said[0]
        observe(progress)
        looking.release(2)
    assert [MOVES in text for text in said] == [False, True]
    assert not [t for t in threading.enumerate() if t.name == "segpipe-stall-alarm"]


def test_a_run_that_fails_fails_as_it_did() -> None:
    try:
        with stall_alarm(1.0, lambda _: None):
            raise ValueError("no disk")
    except ValueError as error:
        assert str(error) == "no disk"
