"""Several runs at once, and nobody is killed: work may be wasted, nothing else."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

from segpipe.store import open_store
from tests.faults.scenarios.runs import Violations, leftovers, make_job, start, unfinished

RUNS = 3


def three_runs_at_once(times: int, rng: random.Random, folder: Path) -> Iterator[Violations]:
    for number in range(times):
        job = make_job(folder / f"job-{number}", rng.randrange(6, 16), rng.randrange(2, 4))
        root = folder / f"store-{number}"
        runs = [start(root, job, f"run-{name}") for name in range(RUNS)]
        for run in runs:
            run.join()
        found = [f"{run.name} ended with {run.exitcode}" for run in runs if run.exitcode]
        yield found + unfinished(root, job) + leftovers(open_store(root).files)
