"""Object storage answers otherwise than hoped for, or not at all."""

from __future__ import annotations

import contextlib
import random
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path

from segpipe.buckets.client import Patience
from segpipe.errors import SegpipeError, TransientStoreError
from segpipe.store import Snapshot, layout
from segpipe.store.commits import committed, read_commit
from segpipe.store.digest import logical_digest
from segpipe.store.files import Files
from segpipe.store.fsck import check_store
from segpipe.store.objects import ObjectFiles
from tests.faults.scenarios.runs import (
    REFUSED,
    SPAWN,
    Job,
    Violations,
    leftovers,
    make_job,
    work,
)
from tests.s3 import FAULTS, FOR_GOOD, Fault, FaultKind, Proxy, new_address, reached_at, s3_server

PATIENCE = Patience(times=3, first=0.001, longest=0.004)


def fault_at_each_conditional_put(
    times: int,
    rng: random.Random,
    folder: Path,
    endpoint: str | None = None,
    repeats: Sequence[int] = (1, FOR_GOOD),
    images: int = 5,
) -> Iterator[Violations]:
    """412, 409, 503, a reset and a lost reply at each conditional PUT that a run makes: all of
    them, or as many as asked for.

    Args:
        endpoint: of a server; None for one of its own.
        repeats: how often in a row; for good, the run gives up, and another one comes.
        images: in chunks of three.
    """
    job = make_job(folder, images)
    with _proxy(endpoint) as proxy:
        puts = range(_count(proxy, job, conditional=True))
        faults = [Fault(*case) for case in product(FAULTS, puts, repeats)]
        for fault in faults if times >= len(faults) else rng.sample(faults, times):
            yield _disturb(proxy, job, fault)


def fault_at_any_request(
    times: int, rng: random.Random, folder: Path, endpoint: str | None = None
) -> Iterator[Violations]:
    """503, a reset or a lost reply at a request of any kind: reads, lists, copies, removals."""
    job = make_job(folder, images=3)
    kinds: tuple[FaultKind, ...] = ("503", "reset", "lost reply")
    with _proxy(endpoint) as proxy:
        requests = _count(proxy, job, conditional=False)
        for _ in range(times):
            fault = Fault(rng.choice(kinds), rng.randrange(requests), rng.choice((1, FOR_GOOD)))
            yield _disturb(proxy, job, replace(fault, conditional=False))


def two_runs_race(
    times: int, rng: random.Random, folder: Path, endpoint: str | None = None
) -> Iterator[Violations]:
    """Two processes work on the same chunks, while one of their conditional PUTs is disturbed."""
    job = make_job(folder, images=8, chunk_images=2)
    with _proxy(endpoint) as proxy:
        for _ in range(times):
            address = new_address()
            proxy.plan(Fault(rng.choice(FAULTS), rng.randrange(40)))
            runs = [
                SPAWN.Process(target=_child, args=(proxy.endpoint, address, job, f"run-{n}"))
                for n in range(2)
            ]
            for run in runs:
                run.start()
            for run in runs:
                run.join()
            proxy.plan(None)
            found = [f"{run.name} ended with {run.exitcode}" for run in runs if run.exitcode]
            files = ObjectFiles(address, PATIENCE)
            yield found + _unfinished(files, job) + leftovers(files)


@contextlib.contextmanager
def _proxy(endpoint: str | None) -> Iterator[Proxy]:
    with contextlib.ExitStack() as stack:
        if endpoint is None:
            endpoint = stack.enter_context(s3_server())
        proxy = stack.enter_context(Proxy(endpoint))
        stack.enter_context(reached_at(proxy.endpoint))
        yield proxy


def _child(endpoint: str, address: str, job: Job, run_id: str) -> None:
    try:
        with reached_at(endpoint):
            work(ObjectFiles(address, PATIENCE), job, run_id)
    except (OSError, SegpipeError) as error:
        print(f"{run_id}: {error}", file=sys.stderr)
        sys.exit(REFUSED)


def _count(proxy: Proxy, job: Job, conditional: bool) -> int:
    """Requests of an undisturbed run."""
    proxy.plan(Fault("503", sys.maxsize, 0, conditional))
    work(ObjectFiles(new_address(), PATIENCE), job, "undisturbed")
    return proxy.seen


def _disturb(proxy: Proxy, job: Job, fault: Fault) -> Violations:
    """A run with this fault and, if it gives up, another without."""
    files = ObjectFiles(new_address(), PATIENCE)
    proxy.plan(fault)
    try:
        work(files, job, "disturbed")
    except TransientStoreError as error:
        found = [f"one disturbance was too much: {error}"] if fault.times == 1 else []
        resume = True
    except (OSError, SegpipeError) as error:
        found = [f"{type(error).__name__}: {error}"]
        resume = True
    else:
        found = leftovers(files)
        resume = False
    if not proxy.happened:
        found.append("it never happened")
    proxy.plan(None)
    if resume:
        found += _unsound(files)
        work(files, job, "resumed")
    return [f"{fault}: {violation}" for violation in found + _unfinished(files, job)]


def _unsound(files: Files) -> Violations:
    """What is wrong with a store whatever happened to it."""
    if not files.exists(layout.MARKER):
        return []
    found = [f"{problem.path}: {problem.detail}" for problem in check_store(files)]
    seen = set(Snapshot(files).chunk_ids) - set(committed(files))
    return found + [f"{chunk_id}: is seen but not committed" for chunk_id in sorted(seen)]


def _unfinished(files: Files, job: Job) -> Violations:
    """What is wrong with a store in which a run has come to its end."""
    found = _unsound(files)
    snapshot = Snapshot(files)
    if logical_digest(snapshot) != job.digest:
        found.append(f"{files.address}: is not what an undisturbed run makes")
    commits = [read_commit(files, chunk_id) for chunk_id in committed(files)]
    for table, count in (
        ("images", sum(commit.n_images for commit in commits)),
        ("objects", sum(commit.n_objects for commit in commits)),
    ):
        if (rows := snapshot.dataset(table).count_rows()) != count:
            found.append(f"{table}: {rows} rows instead of {count}")
    if len(commits) != job.n_chunks:
        found.append(f"{len(commits)} commits for {job.n_chunks} chunks")
    return found
