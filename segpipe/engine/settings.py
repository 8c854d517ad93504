"""How Dask and the libraries of a worker are set: here, or by the environment somewhere else."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import dask

from segpipe.machine import memory_limit

MEMORY_SHARE = 0.8
"""Of the machine's memory, for all workers together; the rest is for the run itself, its server and
the system."""

_ENVIRONMENT = "distributed.nanny.pre-spawn-environ"

SETTINGS = {
    # A worker's death is told at once; the second try is ours, with care.
    "distributed.scheduler.allowed-failures": 0,
    # A chunk goes to a worker that is free, not into a queue behind a slow one.
    "distributed.scheduler.worker-saturation": 1.0,
    # Workers hold no data to spill; one that leaves its memory limit is stopped and looked into.
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,
    # What each thread was doing, kept for an hour: 0.2 MB a second in every process.
    "distributed.worker.profile.enabled": False,
    # Each process looks at its own event loop and at the system less often than by default: that
    # takes core time from the networks, also where Dask has nothing to do.
    "distributed.admin.tick.interval": "1s",
    "distributed.admin.system-monitor.interval": "1s",
    # The last 1000 messages to each worker, each with a chunk's list of images: 42 MB.
    "distributed.admin.low-level-log-length": 20,
}

ALLOCATOR = {
    # Dask has glibc return freed memory at once, which networks then page in again for every
    # layer: a forward pass takes 2.5 times as long (U-Net, 512x512, two cores). Kept for each
    # thread it would be too much (peak of a chunk beside the model: 1.5 GB, with one arena for
    # all threads 0.9; U-Net, 1024x1024). So would the tensors of a large tile (3.8 GB at the peak
    # instead of 3.0; U-Net, 3264x3264): these are returned, and paged in 2 MB at a time, by torch
    # itself; 4 kB at a time that takes 1.5 times as long as computing with what is kept.
    "MALLOC_TRIM_THRESHOLD_": 1 << 30,
    "MALLOC_MMAP_THRESHOLD_": 64 << 20,
    "THP_MEM_ALLOC_ENABLE": 1,
    "MALLOC_ARENA_MAX": 1,
}

THREAD_COUNTS = (
    "OMP_NUM_THREADS",  # torch, Arrow
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "OPENCV_FOR_THREADS_NUM",
    "ZARR_THREADING__MAX_WORKERS",
)
"""Variables that say with how many threads a library computes; without them it takes all cores, in
every worker. Dask sets some of them to 1."""


def share_of_memory(workers: int) -> int:
    """Bytes for each of `workers` on this machine."""
    return int(MEMORY_SHARE * memory_limit()) // workers


@contextmanager
def dask_set(threads: int, lost_worker_timeout: str) -> Iterator[None]:
    """A cluster that is started in the block is set as above.

    Args:
        threads: that the libraries of each of its workers compute with.
        lost_worker_timeout: after which Dask gives up a worker that has left without a word.
    """
    variables = {
        f"{_ENVIRONMENT}.{name}": value for name, value in _process_variables(threads).items()
    }
    timeout = {"distributed.deploy.lost-worker-timeout": lost_worker_timeout}
    with (
        dask.config.set({**SETTINGS, **timeout, **variables}),
        _restored(dask.config.get(_ENVIRONMENT)),
    ):
        yield


@contextmanager
def worker_environment(threads: int) -> Iterator[None]:
    """A process that is started in the block finds what a local worker does in its environment."""
    variables = {**dask.config.get(_ENVIRONMENT), **_process_variables(threads)}
    with _restored(variables):
        for name, value in variables.items():
            os.environ.setdefault(name, str(value))
        yield


def exported(threads: int) -> dict[str, str]:
    """The same as variables of a process on another machine, which starts a worker there."""
    settings = {f"DASK_{_as_variable(key)}": value for key, value in SETTINGS.items()}
    return {name: str(value) for name, value in {**settings, **_process_variables(threads)}.items()}


def _as_variable(key: str) -> str:
    return key.upper().replace(".", "__").replace("-", "_")


def _process_variables(threads: int) -> dict[str, int]:
    return {**ALLOCATOR, **dict.fromkeys(THREAD_COUNTS, threads)}


@contextmanager
def _restored(names: Iterable[str]) -> Iterator[None]:
    """What Dask sets for workers it sets here, and takes it for the user's own the next time."""
    before = {name: os.environ.get(name) for name in names}
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
