"""The Prefect server stops answering while chunks run: for a while, or for good."""

from __future__ import annotations

import random
import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from tests.faults.scenarios.program import (
    ended,
    make_program_job,
    start_program,
    wait_for_commits,
)
from tests.faults.scenarios.runs import Violations
from tests.servers.prefect import impatient_prefect

STOPPED_SECONDS = 4


def stop_or_kill_the_server(times: int, rng: random.Random, folder: Path) -> Iterator[Violations]:
    """In turn: SIGSTOP for some seconds and then SIGCONT, and SIGKILL; one server for both."""
    job = make_program_job(folder, images=24)
    for first in range(0, times, 2):
        with impatient_prefect(folder) as (server, environment):
            for number in range(first, min(first + 2, times)):
                root = folder / f"store-{number}"
                run = start_program(job, root, environment)
                wait_for_commits(root, rng.randrange(1, job.n_chunks // 2), run)
                server.send_signal(signal.SIGKILL if number % 2 else signal.SIGSTOP)
                with suppress(subprocess.TimeoutExpired):
                    run.wait(STOPPED_SECONDS)
                server.send_signal(signal.SIGCONT)
                yield ended(run, root, job)
