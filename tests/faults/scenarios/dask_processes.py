"""Dask processes die: a worker, the scheduler, and workers that meet a poison image."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import cloudpickle
from distributed import Client

import tests.generated
from segpipe.engine import Work, equipped, existing_cluster, local_cluster, run_chunks
from segpipe.errors import EngineError
from segpipe.records import Commit
from segpipe.spec import SegmentSpec
from segpipe.store import Snapshot, create_store, open_store
from segpipe.store.recover import recover
from tests.faults.scenarios.runs import Job, Violations, make_job, unfinished, unsound
from tests.generated import (
    SPEC,
    ThresholdSegmenter,
    all_of,
    due_chunks,
    make_collection,
    poison,
    refs,
)
from tests.servers.dask import dask_scheduler, dask_worker, wait_for_workers

# The workers do not have the tests; the segmenter travels to them whole.
cloudpickle.register_pickle_by_value(tests.generated)
cloudpickle.register_pickle_by_value(sys.modules[__name__])

MAX_DEATHS = 2
"""Of workers, by one image."""


def kill_a_worker(times: int, rng: random.Random, folder: Path) -> Iterator[Violations]:
    """One of two workers dies while chunks run; another one joins later."""
    job = make_job(folder, images=24, chunk_images=2)
    with _scheduler(folder) as (_, address), ExitStack() as stack:
        workers = [stack.enter_context(_worker(folder, address, number)) for number in range(2)]
        for number in range(times):
            root = folder / f"store-{number}"
            wait_for_workers(address, 2)
            victim, last_words = workers.pop(0), rng.randrange(job.n_chunks // 2)
            for done, _ in enumerate(_run(root, job, address)):
                if done == last_words:
                    victim.kill()
            workers.append(stack.enter_context(_worker(folder, address, number + 2)))
            yield unfinished(root, job)


def kill_the_scheduler(times: int, rng: random.Random, folder: Path) -> Iterator[Violations]:
    """The run says so and ends; with a new scheduler it goes on."""
    job = make_job(folder, images=24, chunk_images=2)
    for number in range(times):
        root = folder / f"store-{number}"
        last_words = rng.randrange(job.n_chunks // 2)
        with _cluster(folder) as (scheduler, address):
            try:
                for done, _ in enumerate(_run(root, job, address)):
                    if done == last_words:
                        scheduler.kill()
                found = ["the run did not notice"]
            except EngineError as error:
                found = [] if address in str(error) else [str(error)]
        found += unsound(root)
        with _cluster(folder) as (_, address):
            list(_run(root, job, address))
        yield found + unfinished(root, job)


def poison_at_each_position(times: int, rng: random.Random, folder: Path) -> Iterator[Violations]:
    """An image that kills whoever segments it, at each place of a chunk in turn."""
    images = make_collection(folder / "images", 4)
    paths = sorted(images.rglob("*.png"))
    with local_cluster(1) as client:
        for number in range(times):
            victim = paths[number % len(paths)]
            good = victim.read_bytes()
            poison(victim)
            yield _poisoned(client, folder / f"store-{number}", images, victim)
            victim.write_bytes(good)


def _poisoned(client: Client, root: Path, images: Path, victim: Path) -> Violations:
    create_store(root)
    births = root / "births"
    work = Work("run", str(root), SPEC, births, 1, _load_and_tell)
    with equipped(client, work) as staff:
        list(run_chunks(staff, all_of(100, refs(images))))
    rows = open_store(root).image_rows()
    failed = {row["path"]: row["reason"] for row in rows if row["status"] == "failed"}
    found = unsound(root)
    if failed != {str(victim.relative_to(images)): "worker_died"}:
        found.append(f"{victim}: poisoned, and failed are: {failed}")
    if (deaths := len(births.read_text().split()) - 1) > MAX_DEATHS:
        found.append(f"{victim}: killed {deaths} workers")
    return found


def run_on_dask(client: Client, root: Path, job: Job) -> Iterator[Commit]:
    """What a run does on a cluster, without Prefect; its commits as they come."""
    files = create_store(root)
    recover(files)
    chunks = due_chunks(Snapshot(files), job.chunk_images, refs(job.images))
    with equipped(client, Work("run", str(root), SPEC, None, 1, _load)) as staff:
        yield from run_chunks(staff, chunks)


def _run(root: Path, job: Job, address: str) -> Iterator[Commit]:
    with existing_cluster(address) as client:
        yield from run_on_dask(client, root, job)


def _load(spec: SegmentSpec, weights: Path | None, threads: int | None) -> Any:
    return ThresholdSegmenter(spec)


def _load_and_tell(spec: SegmentSpec, births: Path | None, threads: int | None) -> Any:
    """Each worker process loads the model once, and writes that down."""
    assert births is not None
    with births.open("a") as file:
        file.write(f"{os.getpid()}\n")
    return ThresholdSegmenter(spec)


@contextmanager
def _cluster(folder: Path) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    with _scheduler(folder) as (scheduler, address), _worker(folder, address, 0):
        wait_for_workers(address, 1)
        yield scheduler, address


@contextmanager
def _scheduler(folder: Path) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    with dask_scheduler(folder, dict(os.environ)) as (process, address):
        yield process, address
        process.kill()


@contextmanager
def _worker(folder: Path, address: str, number: int) -> Iterator[subprocess.Popen[bytes]]:
    options = ["--nthreads", "1", "--no-nanny", "--death-timeout", "60"]
    name = f"worker-{number}"
    with dask_worker(folder, address, dict(os.environ), *options, name=name) as process:
        yield process
        process.kill()
