"""The Dask side: a window of chunks in flight, and what to do when a worker dies.

References go out, small commits come back, and each future is let go when it is done, so that the
scheduler's memory does not grow with the archive. A chunk whose worker died is run again with
care (see `pipeline.Care`): one image at a time, a crumb before each, decoders in a process of
their own. If the worker dies again, the crumb names the image, which is quarantined; so an image
that is poison to its decoder costs one worker and itself, one that is poison to the model two.
"""

from __future__ import annotations

import secrets
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import dask
from distributed import (
    CancelledError,
    Client,
    Future,
    KilledWorker,
    LocalCluster,
    Worker,
    WorkerPlugin,
    as_completed,
    get_worker,
)
from distributed.comm.core import CommClosedError

from segpipe.batching import Capacity
from segpipe.errors import EngineError, StoreError, TransientStoreError
from segpipe.machine import give_back_free_memory, memory_limit
from segpipe.pipeline import Care, process_chunk
from segpipe.planning.memory import PLANNED, SMALLEST, worker_budget
from segpipe.readers import Watchdog
from segpipe.records import Chunk, Commit
from segpipe.segmenters.base import Segmenter
from segpipe.segmenters.build import build
from segpipe.spec import SegmentSpec
from segpipe.store.addresses import files_at
from segpipe.store.commits import read_crumbs
from segpipe.store.files import Files, failure_text

IN_FLIGHT = 2
"""Chunks per worker that are submitted at a time: one in work, one at hand."""

MAX_UNEXPLAINED = 3
"""Deaths on one chunk, with no image to blame, after which the run stops."""

MAX_TRANSIENT = 3
"""Failures of the store on one chunk that may pass, after which they count as lasting."""

MEMORY_SHARE = 0.8
"""Of the machine's memory, for all workers together; the rest is for the run itself, its server and
the system."""

PLUGIN = "segpipe-model"

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
    # The last 1000 messages to each worker, each with a chunk's list of images: 42 MB.
    "distributed.admin.low-level-log-length": 20,
    # Dask has glibc return freed memory at once, which networks then page in again for every
    # layer: a forward pass takes 2.5 times as long (U-Net, 512x512, two cores). Kept for each
    # thread it would be too much (peak of a chunk beside the model: 1.5 GB, with one arena for
    # all threads 0.9; U-Net, 1024x1024), and the largest tensors would be paged in all the same.
    "distributed.nanny.pre-spawn-environ.MALLOC_TRIM_THRESHOLD_": 1 << 30,
    "distributed.nanny.pre-spawn-environ.MALLOC_MMAP_THRESHOLD_": 1 << 30,
    "distributed.nanny.pre-spawn-environ.MALLOC_ARENA_MAX": 1,
}


@dataclass(frozen=True, slots=True)
class Work:
    """What every worker needs to know of a run; it goes out once, with the plugin.

    Attributes:
        store: address of the store; a path is the same on every worker.
        weights: path of the weights file, or None.
        threads: computing threads of a worker; None for as many as it was started with.
        load: makes the model on the worker.
        memory: bytes that a worker may use; None for what Dask allows it.
    """

    run_id: str
    store: str
    spec: SegmentSpec
    weights: Path | None
    threads: int | None
    load: Callable[[SegmentSpec, Path | None, int | None], Segmenter[Any, Any]] = build
    memory: int | None = None


class ModelPlugin(WorkerPlugin):
    """Holds a worker's model, loaded when its first chunk arrives and kept for all others."""

    name = PLUGIN

    def __init__(self, work: Work) -> None:
        self.work = work

    def setup(self, worker: Worker) -> None:
        """One chunk at a time, with all the threads that the worker was started with.

        Dask would run a chunk on each thread, and presets every worker to compute with one.
        """
        self.turn = threading.Lock()
        # Only a worker with a nanny is replaced when it ends itself.
        self.watchdog = Watchdog() if worker.nanny else None
        self.threads = self.work.threads or worker.state.nthreads
        self.monitor = worker.monitor
        allowed = worker.memory_manager.memory_limit or memory_limit()
        self.memory = min(allowed, self.work.memory or allowed)

    @cached_property
    def files(self) -> Files:
        return files_at(self.work.store)

    @cached_property
    def segmenter(self) -> Segmenter[Any, Any]:
        return self.work.load(self.work.spec, self.work.weights, self.threads)

    @cached_property
    def capacity(self) -> Capacity:
        """What there is room for beside the model.

        Raises:
            BudgetError: not even one small image.
        """
        segmenter = self.segmenter
        stacks = 2 if self.work.spec.model.task == "semantic" else 1
        budget = worker_budget(self.memory, self.monitor.get_process_memory(), stacks)
        budget.check_smallest(segmenter.footprint(SMALLEST))
        return Capacity(budget, make_room=self._make_room)

    def _make_room(self, needed: int) -> None:
        """Close to the limit, freed memory goes back to the system, in whatever pieces it lies.

        Elsewhere the allocator keeps it, which is faster.
        """
        if self.monitor.get_process_memory() + needed > PLANNED * self.memory:
            give_back_free_memory()


class DeafPlugin(WorkerPlugin):
    """A worker that leaves Ctrl-C to the run: a terminal sends it to every process it started."""

    name = "segpipe-deaf"

    def setup(self, worker: Worker) -> None:  # noqa: ARG002 - the interface's
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def _process(chunk: Chunk, care: Care) -> Commit | StoreError:
    """What runs on a worker.

    Returns:
        The commit, or why the store could not take it, without a traceback in the worker's log.
    """
    plugin = cast(ModelPlugin, get_worker().plugins[PLUGIN])
    files = plugin.files
    try:
        with plugin.turn:
            return process_chunk(
                chunk,
                plugin.segmenter,
                files,
                plugin.work.run_id,
                care,
                plugin.watchdog,
                plugin.capacity,
            )
    except StoreError as error:
        return error
    except OSError as error:  # what an image raises has become its row: this is the store's
        return StoreError(f"{plugin.work.store}: {failure_text(error)}")


@contextmanager
def local_cluster(workers: int, memory: int | None = None) -> Iterator[Client]:
    """Worker processes on this machine, one task at a time each; gone when the block ends.

    Args:
        workers: how many.
        memory: bytes for each, which Dask stops it at; None for its share of the machine's.
    """
    with (
        dask.config.set(_LOCAL_SETTINGS),
        LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            processes=True,
            memory_limit=memory or int(MEMORY_SHARE * memory_limit()) // workers,
            dashboard_address="127.0.0.1:0",
        ) as cluster,
        Client(cluster) as client,
    ):
        client.register_plugin(DeafPlugin())
        yield client


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
    workers: int, address: str | None, memory: int | None = None
) -> AbstractContextManager[Client]:
    """An existing cluster where there is an address, else local workers with `memory` bytes."""
    return existing_cluster(address) if address else local_cluster(workers, memory)


def run_chunks(client: Client, work: Work, chunks: Iterable[Chunk]) -> Iterator[Commit]:
    """Process chunks on a cluster; commits come back as they are made, in any order.

    Args:
        client: of a cluster that sees the store under the same path.
        work: what to do.
        chunks: taken from as places in the window become free.

    Raises:
        EngineError: the scheduler is gone, or workers keep dying on one chunk although no single
            image is to blame.
        Exception: what a chunk raised on its worker; committed chunks stay committed.
    """
    client.register_plugin(ModelPlugin(work))
    window = _Window(client, files_at(work.store))
    remaining = iter(chunks)
    address = client.scheduler_info(n_workers=0)["address"]
    try:
        while True:
            window.fill(remaining)
            if not window.busy:
                return
            yield from window.next_commits()
    except (CommClosedError, CancelledError) as error:
        raise EngineError(
            f"the Dask scheduler at {address} is gone; start it and its workers, "
            "and give the same command again: what is committed stays"
        ) from error
    finally:
        if client.status == "running":  # else there is nobody to say it to
            with suppress(OSError):
                window.cancel()
                client.unregister_worker_plugin(PLUGIN)


@dataclass(frozen=True, slots=True)
class _Try:
    """A submitted chunk.

    Attributes:
        unexplained: workers that died on it, with no image to blame.
        transient: failures of the store that might have passed.
    """

    chunk: Chunk
    care: Care
    unexplained: int = 0
    transient: int = 0


class _Window:
    """The futures in flight."""

    def __init__(self, client: Client, files: Files) -> None:
        self._client = client
        self._files = files
        self._tries: dict[Future[Commit | StoreError], _Try] = {}
        self._done = as_completed(loop=client.loop)

    @property
    def busy(self) -> bool:
        return bool(self._tries)

    def fill(self, chunks: Iterator[Chunk]) -> None:
        """Submit chunks until there are `IN_FLIGHT` for every worker of the moment."""
        workers = max(1, len(self._client.scheduler_info(n_workers=-1)["workers"]))
        while len(self._tries) < IN_FLIGHT * workers and (chunk := next(chunks, None)) is not None:
            self._submit(_Try(chunk, Care()))

    def next_commits(self) -> Iterator[Commit]:
        """Wait for a future; its commit, or nothing where its chunk has to be tried again."""
        future = next(self._done)
        attempted = self._tries.pop(future)
        answer = future.exception() if future.status == "error" else future.result()
        if isinstance(answer, KilledWorker):
            self._submit(self._next_try(attempted))
        elif isinstance(answer, TransientStoreError) and attempted.transient < MAX_TRANSIENT:
            self._submit(replace(attempted, transient=attempted.transient + 1))
        elif isinstance(answer, Commit):
            yield answer
        else:
            raise answer
        future.release()

    def cancel(self) -> None:
        """Let go of everything in flight."""
        self._client.cancel(list(self._tries), force=True)
        self._tries.clear()

    def _submit(self, attempt: _Try) -> None:
        label = f"{secrets.token_hex(4)}-"
        attempt = replace(attempt, care=replace(attempt.care, label=label))
        key = f"chunk-{attempt.chunk.chunk_id}-{label}"
        future = self._client.submit(_process, attempt.chunk, attempt.care, key=key, pure=False)
        self._tries[future] = attempt
        self._done.add(future)

    def _next_try(self, died: _Try) -> _Try:
        """With care; without the image that the last try was working on, if it left a crumb."""
        chunk, care = died.chunk, died.care
        culprits = frozenset(read_crumbs(self._files, chunk.chunk_id, care.label))
        unexplained = died.unexplained + (not culprits)
        if unexplained > MAX_UNEXPLAINED:
            raise EngineError(
                f"{unexplained} workers died on chunk {chunk.chunk_id}, which begins with "
                f"{chunk.images[0].path}, and not on one of its images; look at the workers' "
                "memory limit and their logs"
            )
        care = Care(careful=True, quarantined=care.quarantined | culprits)
        return _Try(chunk, care, unexplained, died.transient)
