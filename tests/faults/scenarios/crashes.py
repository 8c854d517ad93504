"""SIGKILL at each change that a run makes to its store, half-written files included."""

from __future__ import annotations

import random
import signal
from collections.abc import Iterator
from pathlib import Path

from tests.faults.injected import KillAt
from tests.faults.scenarios.runs import Job, Violations, make_job, resume, start

SHAPES = ((8, 3), (5, 5), (3, 1))
"""Images, and images in a chunk."""


def crash_at_each_step(times: int, rng: random.Random, folder: Path) -> Iterator[Violations]:
    """All steps of runs of several shapes, or as many of them as asked for."""
    jobs = [make_job(folder / f"{count}-{size}", count, size) for count, size in SHAPES]
    steps = [(job, k) for job in jobs for k in range(job.steps)]
    for number, (job, k) in enumerate(rng.sample(steps, min(times, len(steps)))):
        # As deep as the undisturbed one: the folders above a store are synced too.
        yield _crash(job.images.with_name(f"store-{number}"), job, k)


def _crash(root: Path, job: Job, k: int) -> Violations:
    process = start(root, job, "killed", KillAt(k))
    process.join()
    if process.exitcode != -signal.SIGKILL:
        return [f"step {k} of {job.steps}: ended with {process.exitcode} instead of being killed"]
    return resume(root, job)
