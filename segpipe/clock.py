"""Where the time of a chunk goes: wall and core seconds of each of its stages."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, TypeVar

T = TypeVar("T")

Stage = Literal[
    "survey", "decode", "preprocess", "forward", "postprocess", "measure", "write", "commit"
]
Wait = Literal["wait_for_images", "wait_for_room"]

CORES = "_cores"
"""Behind the name of a stage: its core seconds."""


@dataclass(slots=True)
class Span:
    """One execution of a stage; `seconds` of wall time, known when it is over."""

    seconds: float = 0.0


class StageClock:
    """Adds up the stages of one chunk, which run in several threads.

    A stage's core seconds are those of the thread it runs in. The threads that a network's library
    keeps for itself belong to no stage; so the core seconds of the forward pass are what the
    process took in all, less what the other stages did. Other work of the process, of which a
    worker has little, is among them.
    """

    def __init__(self) -> None:
        self._spent: defaultdict[str, float] = defaultdict(float)
        self._lock = threading.Lock()
        self._started = time.perf_counter(), time.process_time()

    @contextmanager
    def stage(self, name: Stage) -> Iterator[Span]:
        """What runs in the block, in this thread, is a part of this stage."""
        span = Span()
        wall, cores = time.perf_counter(), time.thread_time()
        try:
            yield span
        finally:
            span.seconds = time.perf_counter() - wall
            self._add({name: span.seconds, name + CORES: time.thread_time() - cores})

    def taking(self, name: Wait, items: Iterable[T]) -> Iterator[T]:
        """The same items; the time until each of them is there is a wait."""
        iterator = iter(items)
        while True:
            started = time.perf_counter()
            try:
                item = next(iterator)
            except StopIteration:
                return
            finally:
                self._add({name: time.perf_counter() - started})
            yield item
            del item  # Nothing that was handed on is kept in memory from here.

    def giving(self, name: Wait, items: Iterable[T]) -> Iterator[T]:
        """The same items; the time until each of them is taken is a wait."""
        for item in items:
            started = time.perf_counter()
            yield item
            self._add({name: time.perf_counter() - started})
            del item  # as above

    def seconds(self) -> dict[str, float]:
        """What was spent so far: stage -> wall, stage + `CORES` -> core seconds, and `total`."""
        wall, cores = self._started
        total = time.process_time() - cores
        with self._lock:
            spent = dict(self._spent)
        others = (
            value
            for name, value in spent.items()
            if name.endswith(CORES) and name != "forward" + CORES
        )
        spent["forward" + CORES] = max(0.0, total - sum(others))
        spent |= {"total": time.perf_counter() - wall, "total" + CORES: total}
        return {name: round(value, 6) for name, value in spent.items()}

    def _add(self, spent: dict[str, float]) -> None:
        with self._lock:
            for name, value in spent.items():
                self._spent[name] += value
