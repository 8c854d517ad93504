"""A run, as a function that can be killed, and what must be true of its store."""

from __future__ import annotations

import multiprocessing
import random
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from unittest import mock

from segpipe.errors import SegpipeError
from segpipe.pipeline import process_chunk
from segpipe.store import Snapshot, create_store, layout, open_store, opening
from segpipe.store.commits import committed
from segpipe.store.digest import logical_digest
from segpipe.store.disk import Disk
from segpipe.store.files import Files, LocalFiles
from segpipe.store.fsck import check_store
from segpipe.store.leases import lease
from segpipe.store.plans import read_plan, write_plan
from segpipe.store.recover import recover
from segpipe.store.sums import seal
from segpipe.store.tombstones import hidden_chunks
from tests.faults.injected import Fault, FaultyDisk
from tests.generated import SPEC, ThresholdSegmenter, due_chunks, make_collection, refs

Violations = list[str]

Scenario = Callable[[int, random.Random, Path], Iterator[Violations]]
"""Injects a fault a number of times, in stores below a folder; yields what is wrong after each."""

# A fresh process each time, forked from a clean one that has the imports done.
SPAWN = multiprocessing.get_context("forkserver")
SPAWN.set_forkserver_preload(["tests.faults.warm"])


REFUSED, INTERRUPTED = 1, 130
"""Exit codes of a run that the system refused something, or that Ctrl-C stopped."""


class UnavailableError(Exception):
    """This machine cannot have this fault; the message says why."""


@dataclass(frozen=True)
class Job:
    """What runs do again and again, and what comes of it if nothing disturbs them.

    Attributes:
        digest: logical digest of an undisturbed run.
        steps: changes to the store that an undisturbed run makes.
    """

    images: Path
    chunk_images: int
    digest: str = ""
    steps: int = 0

    @property
    def n_chunks(self) -> int:
        return -(-len(refs(self.images)) // self.chunk_images)


def make_job(folder: Path, images: int = 8, chunk_images: int = 3) -> Job:
    """A collection with one broken image, done once."""
    job = Job(make_collection(folder / "images", images, broken=[images // 2]), chunk_images)
    counted: list[str] = []
    root = folder / "undisturbed"
    segment(root, job, "undisturbed", lambda moment, _: counted.append(moment))
    return Job(job.images, chunk_images, logical_digest(open_store(root)), len(counted))


def segment(root: Path, job: Job, run_id: str, fault: Fault | None = None) -> None:
    """A run in this process, on a disk with a fault."""
    work(LocalFiles(root, FaultyDisk(fault) if fault else Disk()), job, run_id)


def work(
    files: Files, job: Job, run_id: str, done: Callable[[str], object] = lambda _: None
) -> None:
    """What a run does to a store, without Prefect and Dask.

    Args:
        done: called with the id of each chunk that is done.
    """
    with mock.patch.object(opening, "files_at", return_value=files):
        create_store(files.address)
    recover(files)
    with lease(files, run_id):
        write_plan(files, run_id, due_chunks(Snapshot(files), job.chunk_images, refs(job.images)))
        for chunk in read_plan(files, run_id, SPEC.spec_id):
            process_chunk(chunk, ThresholdSegmenter(), files, run_id)
            done(chunk.chunk_id)
        seal(files, run_id)


def start(root: Path, job: Job, run_id: str, fault: Fault | None = None) -> ForkServerProcess:
    """A run in a process of its own, which ends with 0, or with `REFUSED` or `INTERRUPTED`."""
    process = SPAWN.Process(target=_child, args=(root, job, run_id, fault))
    process.start()
    return process


def _child(root: Path, job: Job, run_id: str, fault: Fault | None) -> None:
    # A shell starts what is in its background with Ctrl-C ignored, and children inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        segment(root, job, run_id, fault)
    except (OSError, SegpipeError):
        sys.exit(REFUSED)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


def commits_of(root: Path) -> dict[str, bytes]:
    """File name -> content, of all commits but those that are being forgotten."""
    hidden = hidden_chunks(LocalFiles(root))
    paths = (root / layout.COMMITS).glob("*.json")
    return {path.name: path.read_bytes() for path in paths if path.stem not in hidden}


def unsound(root: Path, before: Mapping[str, bytes] | None = None) -> Violations:
    """What is wrong with a store whatever happened to it; `before` are commits it had once."""
    if not (root / layout.MARKER).exists():
        return [f"{name}: lost with its store" for name in before or ()]
    try:
        files = open_store(root).files
        found = [f"{problem.path}: {problem.detail}" for problem in check_store(files)]
        found += [
            f"{chunk_id}: is seen but not committed"
            for chunk_id in sorted(set(Snapshot(files).chunk_ids) - set(committed(files)))
        ]
    except SegpipeError as error:
        return [str(error)]
    now = commits_of(root)
    kept = (before or {}).items()
    return found + [f"{name}: lost or changed" for name, data in kept if now.get(name) != data]


def unfinished(root: Path, job: Job, before: Mapping[str, bytes] | None = None) -> Violations:
    """What is wrong with a store in which a run has come to its end."""
    found = unsound(root, before)
    if not found and logical_digest(open_store(root)) != job.digest:
        found.append(f"{root}: is not what an undisturbed run makes")
    return found


def resume(root: Path, job: Job, before: Mapping[str, bytes] | None = None) -> Violations:
    """Look at a store after a disturbance, run again, and look again."""
    before = {**(before or {}), **commits_of(root)}
    found = unsound(root, before)
    segment(root, job, "resumed")
    return found + unfinished(root, job, before)


def leftovers(files: Files) -> Violations:
    """Files of attempts that did not commit; a run that was not killed leaves none."""
    attempts = sum(name != "zarr.json" for name in files.names(layout.MASKS))
    commits = len(list(committed(files)))
    found = [f"{layout.STAGING}/{name}: was left" for name in files.names(layout.STAGING)]
    if attempts > commits:
        found.append(f"{layout.MASKS}: {attempts} attempts for {commits} commits")
    return found
