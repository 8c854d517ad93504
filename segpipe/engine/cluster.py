"""Workers: started here or found running, and made ready while the run does other things."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from multiprocessing import resource_tracker

import dask
from distributed import Client, LocalCluster

from segpipe.engine.worker import PLUGIN, ModelPlugin, Work, load_ahead, settings
from segpipe.errors import EngineError
from segpipe.machine import memory_limit
from segpipe.provenance.record import WorkerKind

MEMORY_SHARE = 0.8
"""Of the machine's memory, for all workers together; the rest is for the run itself, its server and
the system."""

_ENVIRONMENT = "distributed.nanny.pre-spawn-environ"

_LOCAL_SETTINGS = {
    # A worker's death is told at once; the second try is ours, with care.
    "distributed.scheduler.allowed-failures": 0,
    # A worker that died is started again by its nanny. Dask gives a nanny up for good that has no
    # worker at this time after a death; with the last one gone, the run would wait for ever.
    "distributed.deploy.lost-worker-timeout": "1000 days",
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
    # Dask has glibc return freed memory at once, which networks then page in again for every
    # layer: a forward pass takes 2.5 times as long (U-Net, 512x512, two cores). Kept for each
    # thread it would be too much (peak of a chunk beside the model: 1.5 GB, with one arena for
    # all threads 0.9; U-Net, 1024x1024), and the largest tensors would be paged in all the same.
    f"{_ENVIRONMENT}.MALLOC_TRIM_THRESHOLD_": 1 << 30,
    f"{_ENVIRONMENT}.MALLOC_MMAP_THRESHOLD_": 1 << 30,
    f"{_ENVIRONMENT}.MALLOC_ARENA_MAX": 1,
}


_THREAD_COUNTS = (
    "OMP_NUM_THREADS",  # torch, Arrow
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "OPENCV_FOR_THREADS_NUM",
    "ZARR_THREADING__MAX_WORKERS",
)
"""Variables that say with how many threads a library computes; without them it takes all cores, in
every worker. Dask sets some of them to 1."""


@dataclass(frozen=True, slots=True)
class Staff:
    """Workers that are ready, or about to be: they load the model.

    Attributes:
        client: of their cluster.
        work: that they were started for.
        kinds: what the run's record says of them.
        dismiss: lets them go; for who does not want to wait until the end of the block.
    """

    client: Client
    work: Work
    kinds: tuple[WorkerKind, ...]
    dismiss: Callable[[], object] = lambda: None


@contextmanager
def staffed(cluster: AbstractContextManager[Client], work: Work) -> Iterator[Future[Staff]]:
    """Inside the block workers start and load the model, and are gone when it ends.

    A thread does it. In this thread Ctrl-C is blocked, and so it is in every process that is
    started from it: a terminal sends it to all of them, but it is for the run alone.
    """
    with ThreadPoolExecutor(1, "segpipe-staff", _block_interrupts) as thread, ExitStack() as opened:

        def assemble() -> Staff:
            staff = opened.enter_context(equipped(opened.enter_context(cluster), work))
            return replace(staff, dismiss=lambda: thread.submit(opened.close))

        staff = thread.submit(assemble)
        try:
            yield staff
        finally:
            staff.exception()  # it must have come before it can go
            thread.submit(opened.close).result()


def _block_interrupts() -> None:
    # When it starts this helper, multiprocessing unblocks Ctrl-C in the thread that it is in.
    resource_tracker.ensure_running()
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})


@contextmanager
def equipped(client: Client, work: Work) -> Iterator[Staff]:
    """Inside the block the workers of a cluster have the model of `work`, or are loading it."""
    found = Counter(client.run(settings, work.threads, on_error="ignore").values())
    client.register_plugin(ModelPlugin(work))
    client.run(load_ahead, wait=False, on_error="ignore")
    kinds = (WorkerKind(count, each.threads, dict(each.variables)) for each, count in found.items())
    try:
        yield Staff(client, work, tuple(kinds))
    finally:
        if client.status == "running":  # else there is nobody to say it to
            with suppress(OSError):
                client.unregister_worker_plugin(PLUGIN)


@contextmanager
def local_cluster(workers: int, memory: int | None = None, threads: int = 1) -> Iterator[Client]:
    """Worker processes on this machine, one task at a time each; gone when the block ends.

    Args:
        workers: how many.
        memory: bytes for each, which Dask stops it at; None for its share of the machine's.
        threads: that the libraries in each compute with.
    """
    with (
        dask.config.set({**_LOCAL_SETTINGS, **_thread_counts(threads)}),
        _restored(dask.config.get(_ENVIRONMENT)),
        LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            processes=True,
            memory_limit=memory or int(MEMORY_SHARE * memory_limit()) // workers,
            dashboard_address="127.0.0.1:0",
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        yield client


@contextmanager
def worker_environment(threads: int) -> Iterator[None]:
    """A process that is started in the block finds what a local worker does in its environment."""
    with dask.config.set({**_LOCAL_SETTINGS, **_thread_counts(threads)}):
        variables = dict(dask.config.get(_ENVIRONMENT))
    with _restored(variables):
        for name, value in variables.items():
            os.environ.setdefault(name, str(value))
        yield


def _thread_counts(threads: int) -> dict[str, int]:
    return {f"{_ENVIRONMENT}.{name}": threads for name in _THREAD_COUNTS}


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


@contextmanager
def existing_cluster(address: str) -> Iterator[Client]:
    """The workers of a scheduler that runs already; they stay when the block ends.

    Raises:
        EngineError: nobody answers there, or no worker has joined.
    """
    try:
        client = Client(address, timeout="15s", set_as_default=False)
    except (OSError, ValueError) as error:
        raise EngineError(f"no Dask scheduler answers at {address}: {error}") from error
    with client:
        if not client.scheduler_info(n_workers=-1)["workers"]:
            raise EngineError(f"{address}: the scheduler has no workers; start `dask worker`")
        yield client


def connect(
    address: str | None, workers: int, memory: int | None, threads: int | None
) -> AbstractContextManager[Client]:
    """An existing cluster where there is an address, else local workers."""
    return existing_cluster(address) if address else local_cluster(workers, memory, threads or 1)
