"""What is on a worker: the model, and the call that processes a chunk with it."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import Any, cast

from distributed import Worker, WorkerPlugin, get_worker

from segpipe.batching import Capacity
from segpipe.errors import EngineError, StoreError
from segpipe.large.work import Part, look_at
from segpipe.machine import give_back_free_memory, memory_limit
from segpipe.pipeline import Care, Unfinished, begin_chunk
from segpipe.planning.memory import PLANNED, SMALLEST, worker_budget
from segpipe.readers import Watchdog
from segpipe.records import Chunk, Commit
from segpipe.segmenters.base import Segmenter
from segpipe.segmenters.build import build
from segpipe.spec import SegmentSpec
from segpipe.store.addresses import files_at
from segpipe.store.files import Files, failure_text

PLUGIN = "segpipe-model"

TOLD = ("ALLOC_", "_NUM_THREADS", "_THREADS_NUM", "_IO_THREADS", "THREADING__MAX_WORKERS")
"""Parts of the names of variables that set an allocator or the threads of a library."""


def _installed() -> str:
    return metadata.version("segpipe")


@dataclass(frozen=True, slots=True)
class Work:
    """What every worker needs to know of a run; it goes out once, with the plugin.

    Attributes:
        store: address of the store; a path is the same on every worker.
        weights: path of the weights file, or None.
        threads: computing threads of a worker; None for as many as it was started with.
        load: makes the model on the worker.
        memory: bytes that a worker may use; None for what Dask allows it.
        version: of segpipe.
    """

    run_id: str
    store: str
    spec: SegmentSpec
    weights: Path | None
    threads: int | None
    load: Callable[[SegmentSpec, Path | None, int | None], Segmenter[Any, Any]] = build
    memory: int | None = None
    version: str = field(default_factory=_installed)

    @property
    def topic(self) -> str:
        """Of Dask events: under which workers say that they have come."""
        return f"segpipe-{self.run_id}"


def computing_threads(threads: int | None, worker: Worker) -> int:
    """As many as the run says, or else as the worker was started with."""
    return int(threads or worker.state.nthreads)


class ModelPlugin(WorkerPlugin):
    """Holds a worker's model, loaded once: when its first chunk arrives, or ahead of that."""

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
        self.threads = computing_threads(self.work.threads, worker)
        self.monitor = worker.monitor
        allowed = worker.memory_manager.memory_limit or memory_limit()
        self.memory = min(allowed, self.work.memory or allowed)
        self.worker_name = str(worker.name)
        worker.log_event(self.work.topic, _settings(self.worker_name, self.threads))

    @cached_property
    def files(self) -> Files:
        return files_at(self.work.store)

    @cached_property
    def segmenter(self) -> Segmenter[Any, Any]:
        """The model.

        Raises:
            EngineError: this worker, which came later than others, has another segpipe.
        """
        if (here := _installed()) != self.work.version:
            raise EngineError(
                f"the worker {self.worker_name} has segpipe {here}, and this run is of segpipe "
                f"{self.work.version}; install the same version on all machines"
            )
        return self.work.load(self.work.spec, self.work.weights, self.threads)

    def load_ahead(self) -> None:
        """Begin to load the model, in a thread that takes the turn of a chunk.

        That it cannot be loaded is told by the first chunk, which tries again.
        """

        def load() -> None:
            with self.turn, suppress(Exception):
                _ = self.segmenter

        threading.Thread(target=load, name="segpipe-load", daemon=True).start()

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


Done = Commit | Unfinished | Part
"""What a worker answers when all is well."""


def process(chunk: Chunk, care: Care, part: Part | None = None) -> Done | StoreError:
    """A chunk, or one part of a large image of it, on a worker that has the plugin.

    Returns:
        The commit, or the parts that have to be looked at before; of a part, that part. Or why the
        store could not take it, without a traceback in the worker's log.
    """
    plugin = cast(ModelPlugin, get_worker().plugins[PLUGIN])
    files = plugin.files
    try:
        with plugin.turn:
            if part is not None:
                look_at(part, chunk, plugin.segmenter, files, plugin.capacity)
                return part
            return begin_chunk(
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


async def load_ahead(dask_worker: Worker) -> None:  # Dask waits for a plain function
    """On a worker that has the plugin."""
    cast(ModelPlugin, dask_worker.plugins[PLUGIN]).load_ahead()


@dataclass(frozen=True, slots=True)
class Settings:
    """What a worker computes with: threads, and the variables of `TOLD` with their values."""

    threads: int
    variables: tuple[tuple[str, str], ...]


def _settings(name: str, threads: int) -> dict[str, Any]:
    """Of this process, as an event of Dask can tell it."""
    variables = {
        variable: value
        for variable, value in sorted(os.environ.items())
        if any(part in variable for part in TOLD)
    }
    return {"name": name, "threads": threads, "variables": variables}


def told_by(message: dict[str, Any]) -> Settings:
    """What a worker has told of itself."""
    return Settings(message["threads"], tuple(message["variables"].items()))
