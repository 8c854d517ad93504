"""The Dask side: a window of chunks in flight, and what to do when a worker dies.

References go out, small commits come back, and each future is let go when it is done, so that the
scheduler's memory does not grow with the archive. A chunk whose worker died is run again with
care (see `pipeline.Care`): one image at a time, a crumb before each. If the worker dies again,
the crumb names the image, which is quarantined; so a poison image costs two workers and itself.
"""

from __future__ import annotations

import os
import secrets
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import dask
from distributed import (
    Client,
    Future,
    KilledWorker,
    LocalCluster,
    Worker,
    WorkerPlugin,
    as_completed,
    get_worker,
)

from segpipe.errors import EngineError
from segpipe.pipeline import Care, process_chunk
from segpipe.records import Chunk, Commit
from segpipe.segmenters.base import Segmenter
from segpipe.segmenters.build import build
from segpipe.spec import SegmentSpec
from segpipe.store.commits import read_crumbs
from segpipe.store.files import Files, LocalFiles

IN_FLIGHT = 2
"""Chunks per worker that are submitted at a time: one in work, one at hand."""

MAX_UNEXPLAINED = 3
"""Deaths on one chunk, with no image to blame, after which the run stops."""

PLUGIN = "segpipe-model"

_LOCAL_SETTINGS = {
    # A worker's death is told at once; the second try is ours, with care.
    "distributed.scheduler.allowed-failures": 0,
    # A chunk goes to a worker that is free, not into a queue behind a slow one.
    "distributed.scheduler.worker-saturation": 1.0,
    # Workers hold no data to spill; one that leaves its memory limit is stopped and looked into.
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,
    # Dask has glibc return freed memory at once, which networks then page in again for every
    # layer: a forward pass takes 2.5 times as long (U-Net, 512x512, two cores).
    "distributed.nanny.pre-spawn-environ.MALLOC_TRIM_THRESHOLD_": 1 << 30,
    "distributed.nanny.pre-spawn-environ.MALLOC_MMAP_THRESHOLD_": 1 << 30,
}


@dataclass(frozen=True, slots=True)
class Work:
    """What every worker needs to know of a run; it goes out once, with the plugin.

    Attributes:
        store: path of the store, the same on every worker.
        weights: path of the weights file, or None.
        threads: computing threads of a worker; None for as many as it was started with.
        load: makes the model on the worker.
    """

    run_id: str
    store: str
    spec: SegmentSpec
    weights: Path | None
    threads: int | None
    load: Callable[[SegmentSpec, Path | None, int | None], Segmenter[Any, Any]] = build


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
        self.threads = self.work.threads or worker.state.nthreads

    @cached_property
    def segmenter(self) -> Segmenter[Any, Any]:
        return self.work.load(self.work.spec, self.work.weights, self.threads)


class DeafPlugin(WorkerPlugin):
    """A worker that leaves Ctrl-C to the run: a terminal sends it to every process it started."""

    name = "segpipe-deaf"

    def setup(self, worker: Worker) -> None:  # noqa: ARG002 - the interface's
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def _process(chunk: Chunk, care: Care) -> Commit:
    """What runs on a worker."""
    plugin = cast(ModelPlugin, get_worker().plugins[PLUGIN])
    files = LocalFiles(plugin.work.store)
    with plugin.turn:
        return process_chunk(chunk, plugin.segmenter, files, plugin.work.run_id, care)


@contextmanager
def local_cluster(workers: int) -> Iterator[Client]:
    """Worker processes on this machine, one task at a time each; gone when the block ends."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with (
        dask.config.set(_LOCAL_SETTINGS),
        LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            processes=True,
            memory_limit=memory // workers,
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


def connect(workers: int, address: str | None) -> AbstractContextManager[Client]:
    """An existing cluster where there is an address, else local workers."""
    return existing_cluster(address) if address else local_cluster(workers)


def run_chunks(client: Client, work: Work, chunks: Iterable[Chunk]) -> Iterator[Commit]:
    """Process chunks on a cluster; commits come back as they are made, in any order.

    Args:
        client: of a cluster that sees the store under the same path.
        work: what to do.
        chunks: taken from as places in the window become free.

    Raises:
        EngineError: workers keep dying on one chunk although no single image is to blame.
        Exception: what a chunk raised on its worker; committed chunks stay committed.
    """
    client.register_plugin(ModelPlugin(work))
    window = _Window(client, LocalFiles(work.store))
    remaining = iter(chunks)
    try:
        while True:
            window.fill(remaining)
            if not window.busy:
                return
            yield from window.next_commits()
    finally:
        window.cancel()
        client.unregister_worker_plugin(PLUGIN)


@dataclass(frozen=True, slots=True)
class _Try:
    """A submitted chunk: how carefully, and how many workers died on it for no known reason."""

    chunk: Chunk
    care: Care
    unexplained: int = 0


class _Window:
    """The futures in flight."""

    def __init__(self, client: Client, files: Files) -> None:
        self._client = client
        self._files = files
        self._tries: dict[Future[Commit], _Try] = {}
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
        error = future.exception() if future.status == "error" else None
        if isinstance(error, KilledWorker):
            self._submit(self._next_try(attempted))
        else:
            yield future.result()
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
        return _Try(chunk, care, unexplained)
