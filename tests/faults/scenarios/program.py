"""The `segpipe` program as it is, with Prefect and Dask, and its processes killed."""

from __future__ import annotations

import os
import random
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import suppress
from itertools import count
from pathlib import Path

import psutil

from segpipe.execution import planned
from segpipe.pipeline import process_chunk
from segpipe.segmenters.build import build
from segpipe.spec import RunSpec
from segpipe.store import open_store
from segpipe.store.digest import logical_digest
from segpipe.store.plans import read_plan
from tests.faults.scenarios.runs import Job, Violations, commits_of, unfinished, unsound
from tests.generated import make_collection
from tests.servers.prefect import impatient_prefect
from tests.servers.process import SEGPIPE

CHUNK_IMAGES = 2


def make_program_job(folder: Path, images: int) -> Job:
    """A collection for the program, and what comes of it in this process."""
    root = folder / "undisturbed"
    source = make_collection(folder / "images", images, broken=[images // 2])
    with planned(RunSpec(source=str(source), store=str(root), model="classical")) as (run,):
        model = run.model.spec
        for chunk in read_plan(run.files, run.run_id, model.spec_id):
            process_chunk(chunk, build(model, None, 1), run.files, run.run_id)
    return Job(source, CHUNK_IMAGES, logical_digest(open_store(root)))


def start_program(job: Job, root: Path, environment: Mapping[str, str]) -> subprocess.Popen[str]:
    """`segpipe run`, with two workers, in a session of its own; its messages come as stderr."""
    command = [*SEGPIPE, "run", str(job.images), "--store", str(root), "--model", "classical"]
    command += ["--chunk-images", str(job.chunk_images), "--workers", "2"]
    return subprocess.Popen(
        command,
        env=dict(environment),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def wait_for_commits(root: Path, number: int, run: subprocess.Popen[str]) -> None:
    """Until there are so many, or the run has ended."""
    while run.poll() is None and len(list(root.glob("commits/*.json"))) < number:
        with suppress(subprocess.TimeoutExpired):
            run.wait(0.01)


def ended(run: subprocess.Popen[str], root: Path, job: Job, seconds: float = 300) -> Violations:
    """What is wrong with a run that should end well, and with its store."""
    try:
        _, said = run.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(run.pid, signal.SIGKILL)
        return [f"{root}: did not end within {seconds:g} seconds"]
    found = [f"{root}: ended with {run.returncode}: {said[-500:]}"] if run.returncode else []
    return found + unfinished(root, job)


def kill_the_program(times: int, rng: random.Random, folder: Path) -> Iterator[Violations]:
    """Of two programs at work on one store the whole tree, the driver or a worker is killed."""
    job = make_program_job(folder, images=60)
    with impatient_prefect(folder) as (_, environment):
        killed = 0
        for number in count():
            for violations in _round(folder / f"store-{number}", job, rng, environment):
                yield violations
                killed += 1
                if killed == times:
                    return


def _round(
    root: Path, job: Job, rng: random.Random, environment: Mapping[str, str]
) -> Iterator[Violations]:
    """One store, from nothing until all is committed; the last kill answers for the end of it."""
    seen: dict[str, bytes] = {}
    runs = [start_program(job, root, environment) for _ in range(2)]
    found: Violations | None = None
    while True:
        run = runs.pop(rng.randrange(2))
        wait_for_commits(root, len(seen) + rng.randrange(1, 8), run)
        if run.poll() is not None:
            break
        if found is not None:
            yield found
        rng.choice((_kill_tree, _kill_driver, _kill_worker))(run)
        found = unsound(root, seen)
        seen |= commits_of(root)
        runs.append(run if run.poll() is None else start_program(job, root, environment))
    for last in (run, *runs):
        found = (found or []) + ended(last, root, job)
    yield (found or []) + unfinished(root, job, seen)


def _kill_tree(run: subprocess.Popen[str]) -> None:
    for child in psutil.Process(run.pid).children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            child.kill()
    _kill_driver(run)


def _kill_driver(run: subprocess.Popen[str]) -> None:
    run.kill()
    run.communicate()


def _kill_worker(run: subprocess.Popen[str]) -> None:
    """What Dask started for work; there is a moment without one while it starts another."""
    with suppress(psutil.NoSuchProcess, StopIteration):
        children = psutil.Process(run.pid).children(recursive=True)
        next(child for child in children if "spawn_main" in " ".join(child.cmdline())).kill()
