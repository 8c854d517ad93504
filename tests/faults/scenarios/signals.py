"""SIGTERM, Ctrl-C and SIGSTOP, at the worst moment: just before a commit gets its name."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Iterator
from itertools import count
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from segpipe.store import open_store
from tests.faults.injected import KillAt
from tests.faults.scenarios.runs import (
    INTERRUPTED,
    Violations,
    leftovers,
    make_job,
    resume,
    segment,
    start,
    unfinished,
)


class StopBeforeCommit:
    """Stops this very process once, when the n-th commit is about to appear."""

    def __init__(self, n: int) -> None:
        self._left = n

    def __call__(self, moment: str, path: str) -> None:
        if moment == "link" and Path(path).parent.name == "commits":
            if self._left == 0:
                os.kill(os.getpid(), signal.SIGSTOP)
            self._left -= 1


def stop_until_another_wins(times: int, rng: random.Random, folder: Path) -> Iterator[Violations]:
    """SIGSTOP, another run does it all, SIGCONT: the loser removes its own files and no others."""
    job = make_job(folder)
    for number in range(times):
        root = folder / f"store-{number}"
        stopped = start(root, job, "loser", StopBeforeCommit(rng.randrange(job.n_chunks)))
        _wait_until_stopped(stopped)
        segment(root, job, "winner")
        before = {path.name: path.read_bytes() for path in root.glob("commits/*.json")}
        os.kill(stopped.pid or 0, signal.SIGCONT)
        stopped.join()
        found = [] if stopped.exitcode == 0 else [f"the loser ended with {stopped.exitcode}"]
        yield found + unfinished(root, job, before) + leftovers(open_store(root).files)


def terminate_or_interrupt(times: int, rng: random.Random, folder: Path) -> Iterator[Violations]:
    """SIGTERM and Ctrl-C, in turn, at a random change to the store."""
    job = make_job(folder)
    for number, name in zip(range(times), _alternate(), strict=False):
        root = folder / f"store-{number}"
        process = start(root, job, "ended", KillAt(rng.randrange(job.steps), name))
        process.join()
        found = _unexpected_end(process, name)
        yield found + resume(root, job)


def _alternate() -> Iterator[signal.Signals]:
    return ((signal.SIGTERM, signal.SIGINT)[number % 2] for number in count())


def _unexpected_end(process: ForkServerProcess, name: signal.Signals) -> Violations:
    expected = -signal.SIGTERM if name == signal.SIGTERM else INTERRUPTED
    if process.exitcode == expected:
        return []
    return [f"{name.name}: ended with {process.exitcode} instead of {expected}"]


def _wait_until_stopped(process: ForkServerProcess) -> None:
    state = Path(f"/proc/{process.pid}/stat")
    while state.read_text().rpartition(")")[2].split()[0] != "T":
        process.join(0.001)
