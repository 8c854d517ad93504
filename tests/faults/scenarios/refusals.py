"""The system refuses: a full disk, no more open files, no right to write, a broken device."""

from __future__ import annotations

import errno
import os
import random
import resource
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from segpipe.engine import local_cluster
from segpipe.errors import SegpipeError
from tests.faults.injected import FailAt
from tests.faults.scenarios.dask_processes import run_on_dask
from tests.faults.scenarios.runs import (
    REFUSED,
    UnavailableError,
    Violations,
    make_job,
    resume,
    segment,
    start,
)

ERRORS = (errno.ENOSPC, errno.EIO, errno.EMFILE, errno.EACCES)


def fail_at_each_step(times: int, rng: random.Random, folder: Path) -> Iterator[Violations]:
    """Each kind of error at each change that a run makes, or as many of them as asked for."""
    job = make_job(folder, images=5)
    cases = [(number, k) for number in ERRORS for k in range(job.steps)]
    for index, (number, k) in enumerate(rng.sample(cases, min(times, len(cases)))):
        root = folder / f"store-{index}"
        try:
            segment(root, job, "refused", FailAt(k, number))
        except OSError as error:
            found = (
                [] if error.errno == number else [f"step {k}: {errno.errorcode[number]}: {error}"]
            )
        except SegpipeError as error:
            found = [] if os.strerror(number) in str(error) else [f"step {k}: {error}"]
        yield found + resume(root, job)


def full_disk(times: int, rng: random.Random, folder: Path) -> Iterator[Violations]:
    """A real file system without room for what a run writes; then there is room again."""
    job = make_job(folder)
    disk = folder / "disk"
    disk.mkdir()
    with _tmpfs(disk, "size=64m"):
        segment(disk / "store", job, "undisturbed")
        found = os.statvfs(disk)
        pages, inodes = found.f_blocks - found.f_bfree, found.f_files - found.f_ffree
    for number in range(times):
        size, nodes = rng.randrange(1, pages), rng.randrange(3, inodes)
        limit = f"size={4 * size}k" if number % 2 else f"size=64m,nr_inodes={nodes}"
        with _tmpfs(disk, limit):
            try:
                segment(disk / "store", job, "refused")
            except (OSError, SegpipeError) as error:
                found = [] if os.strerror(errno.ENOSPC) in str(error) else [f"{limit}: {error}"]
            else:
                found = [f"{limit}: a run found room where there is none"]
            _mount("-o", "remount,size=64m,nr_inodes=0", str(disk))
            yield found + resume(disk / "store", job)


def full_disk_on_a_cluster(times: int, rng: random.Random, folder: Path) -> Iterator[Violations]:
    """The workers run into it; the run ends with a message, and goes on when there is room."""
    job = make_job(folder)
    disk = folder / "disk"
    disk.mkdir()
    with local_cluster(1) as client:
        for _ in range(times):
            with _tmpfs(disk, f"size=64m,nr_inodes={rng.randrange(10, 30)}"):
                try:
                    list(run_on_dask(client, disk / "store", job))
                    found = ["a run found room where there is none"]
                except SegpipeError as error:
                    told = all(word in str(error) for word in (str(disk), "No space left", "again"))
                    found = [] if told else [f"does not say what to do: {error}"]
                _mount("-o", "remount,size=64m,nr_inodes=0", str(disk))
                yield found + resume(disk / "store", job)


def reached_limits(times: int, rng: random.Random, folder: Path) -> Iterator[Violations]:
    """A real limit on open files or on the length of a file, in a process of its own."""
    job = make_job(folder)
    for number in range(times):
        root = folder / f"store-{number}"
        if number % 2:
            limit = Limit(resource.RLIMIT_FSIZE, rng.randrange(1, 20_000))
        else:
            limit = Limit(resource.RLIMIT_NOFILE, rng.randrange(3, 40))
        process = start(root, job, "limited", limit)
        process.join()
        found = [] if process.exitcode in (0, REFUSED) else [f"ended with {process.exitcode}"]
        yield found + resume(root, job)


class Limit:
    """Lowers a limit of this process at the first change to the store."""

    def __init__(self, kind: int, value: int) -> None:
        self._kind = kind
        self._value = value

    def __call__(self, moment: str, path: str) -> None:
        resource.setrlimit(self._kind, (self._value, resource.getrlimit(self._kind)[1]))


@contextmanager
def _tmpfs(folder: Path, options: str) -> Iterator[None]:
    _mount("-t", "tmpfs", "-o", options, "segpipe-test", str(folder))
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def _mount(*arguments: str) -> None:
    """
    Raises:
        UnavailableError: this user may not.
    """
    try:
        subprocess.run(["mount", *arguments], check=True, capture_output=True, text=True)
    except FileNotFoundError as error:
        raise UnavailableError("there is no program `mount`") from error
    except subprocess.CalledProcessError as error:
        raise UnavailableError(f"mount: {error.stderr.strip()}") from error
