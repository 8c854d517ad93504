"""Wall-clock and core seconds of a piece of work."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True, slots=True)
class Timing:
    """Medians over the rounds.

    Attributes:
        wall: seconds that passed.
        core: seconds that the threads of this process computed, added up.
    """

    wall: float
    core: float


def timed(work: Callable[[], object], rounds: int, warm: int = 1) -> Timing:
    """Time a piece of work, after `warm` rounds that do not count."""
    walls, cores = [], []
    for number in range(warm + rounds):
        wall, core = time.perf_counter(), time.process_time()
        work()
        if number >= warm:
            walls.append(time.perf_counter() - wall)
            cores.append(time.process_time() - core)
    return Timing(median(walls), median(cores))
