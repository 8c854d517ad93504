"""SIGKILL at any time, while two runs work on one store."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from tests.faults.injected import KillAt
from tests.faults.scenarios.runs import (
    Job,
    Violations,
    commits_of,
    make_job,
    segment,
    start,
    unfinished,
    unsound,
)

CHUNKS = 6


@dataclass
class _Victim:
    """A run, and when to kill it: by itself at a step, or from outside once files are there."""

    process: ForkServerProcess
    after_files: int | None

    def end(self, root: Path) -> int | None:
        """Wait for its end; the exit code."""
        while self.after_files is not None and self.process.is_alive():
            if _files(root) >= self.after_files:
                self.process.kill()
                break
            self.process.join(0.001)
        self.process.join()
        return self.process.exitcode


def _files(root: Path) -> int:
    """As many as there are at about this time; some come and go."""
    return sum(len(names) for _, _, names in os.walk(root))


def kill_two_overlapping_runs(times: int, rng: random.Random, folder: Path) -> Iterator[Violations]:
    """As soon as one of two runs is dead the next one starts, while the other goes on."""
    job = make_job(folder, images=3 * CHUNKS, chunk_images=3)
    killed = 0
    for number in count():
        for violations in _round(folder / f"store-{number}", job, rng):
            yield violations
            killed += 1
        if killed >= times:
            return


def _round(root: Path, job: Job, rng: random.Random) -> Iterator[Violations]:
    """One store, from nothing until all is committed."""
    seen: dict[str, bytes] = {}
    names = count()
    finished: list[int | None] = []

    def begin() -> _Victim:
        if rng.random() < 0.5:
            fault, after_files = KillAt(rng.randrange(job.steps // 3)), None
        else:
            there = _files(root)
            fault, after_files = None, there + rng.randrange(1, 80)
        return _Victim(start(root, job, f"run-{next(names)}", fault), after_files)

    victims = [begin(), begin()]
    while len(seen) < job.n_chunks:
        victim = victims.pop(rng.randrange(2))
        victims.append(begin())
        if (code := victim.end(root)) != -signal.SIGKILL:
            finished.append(code)
            break
        found = unsound(root, seen)
        seen |= commits_of(root)
        yield found
    for victim in victims:
        if (code := victim.end(root)) != -signal.SIGKILL:
            finished.append(code)
        else:
            yield unsound(root, seen)
    segment(root, job, "last")
    found = [f"a run that was not killed ended with {code}" for code in finished if code]
    if found := found + unfinished(root, job, seen):
        yield found
