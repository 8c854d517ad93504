"""A window of chunks in flight, and what to do when a worker dies.

References go out, small commits come back, and each future is let go when it is done, so that the
scheduler's memory does not grow with the archive. A chunk whose worker died is run again with
care (see `pipeline.Care`): one image at a time, a crumb before each, decoders in a process of
their own. If the worker dies again, the crumb names the image, which is quarantined; so an image
that is poison to its decoder costs one worker and itself, one that is poison to the model two.
The parts of a large image go through the same window (see `spread`).
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import replace

from distributed import CancelledError, Future, KilledWorker, as_completed
from distributed.comm.core import CommClosedError

from segpipe.engine.patience import Vigil
from segpipe.engine.spread import Looked, Spread, Try
from segpipe.engine.staff import Staff
from segpipe.engine.worker import Done, process
from segpipe.errors import EngineError, StoreError, TransientStoreError
from segpipe.large.work import Part
from segpipe.pipeline import Care, Unfinished
from segpipe.records import Chunk, Commit
from segpipe.store.addresses import files_at
from segpipe.store.commits import read_crumbs

IN_FLIGHT = 2
"""Chunks per worker that are submitted at a time: one in work, one at hand."""

LOOK_SECONDS = 1.0
"""Without a chunk that is done, after which new workers are looked for."""

MAX_UNEXPLAINED = 3
"""Deaths on one chunk, with no image to blame, after which the run stops."""

MAX_TRANSIENT = 3
"""Failures of the store on one chunk that may pass, after which they count as lasting."""


Task = Callable[..., Done | StoreError]
"""Takes a chunk and a `Care`, and a `Part` where that is all that is to be done."""


def run_chunks(
    staff: Staff, chunks: Iterable[Chunk], task: Task = process
) -> Iterator[Commit | Looked]:
    """Process chunks on a cluster; commits come back as they are made, in any order.

    Between them it tells each time that a part of a large image was looked at.

    Args:
        staff: workers that see the store under the same path; there may be none yet.
        chunks: taken from as places in the window become free.
        task: what a worker does with a chunk.

    Raises:
        EngineError: the scheduler is gone, there was no worker for too long, or workers keep
            dying on one chunk although no single image is to blame.
        Exception: what a chunk raised on its worker; committed chunks stay committed.
    """
    client = staff.client
    window = _Window(staff, task)
    remaining = iter(chunks)
    address = client.scheduler_info(n_workers=0)["address"]
    try:
        while True:
            window.fill(remaining)
            if not window.busy:
                return
            yield from window.next_answers()
    except (CommClosedError, CancelledError) as error:
        raise EngineError(
            f"the Dask scheduler at {address} is gone; start it and its workers, "
            "and give the same command again: what is committed stays"
        ) from error
    finally:
        if client.status == "running":  # else there is nobody to say it to
            with suppress(OSError):
                window.cancel()


class _Window:
    """The futures in flight."""

    def __init__(self, staff: Staff, task: Task) -> None:
        self._client = client = staff.client
        self._files = files_at(staff.work.store)
        self._demand = staff.demand
        self._vigil = Vigil(staff.patience)
        self._task = task
        self._tries: dict[Future[Done | StoreError], Try] = {}
        self._spread = Spread()
        self._done = as_completed(loop=client.loop)

    @property
    def busy(self) -> bool:
        return bool(self._tries or self._spread)

    def fill(self, chunks: Iterator[Chunk]) -> None:
        """Submit chunks until there are `IN_FLIGHT` for every worker of the moment."""
        workers = self._workers()
        self._vigil.look(workers)
        while len(self._tries) < IN_FLIGHT * max(1, workers):
            attempt = self._spread.next() or next((Try(one, Care()) for one in chunks), None)
            if attempt is None:
                self._demand.chunks = len(self._tries)
                return
            self._submit(attempt)

    def next_answers(self) -> Iterator[Commit | Looked]:
        """Wait a while for a future; what it came to, or nothing where it is tried again."""
        done = self._done
        with done.thread_condition:
            if not done.thread_condition.wait_for(done.has_ready, LOOK_SECONDS):
                return
        future = next(done)
        attempted = self._tries.pop(future)
        answer = self._answer(future)
        if isinstance(answer, KilledWorker):
            if attempted.part is not None:
                self._spread.died(attempted)
            else:
                self._submit(self._next_try(attempted))
        elif isinstance(answer, TransientStoreError) and attempted.transient < MAX_TRANSIENT:
            self._submit(replace(attempted, transient=attempted.transient + 1))
        elif isinstance(answer, Commit):
            yield answer
        elif isinstance(answer, Unfinished):
            self._spread.begin(attempted, answer.parts)
        elif isinstance(answer, Part):
            yield self._spread.looked_at(attempted.chunk, answer)
        else:
            raise answer
        future.release()

    def _answer(self, future: Future[Done | StoreError]) -> Done | BaseException:
        """What came of a future. Its worker may leave with the commit in hand: it is made again."""
        while True:
            try:
                return future.result(timeout=LOOK_SECONDS)
            except TimeoutError as error:
                if future.status == "error":
                    return error
                self._vigil.look(self._workers())
            except Exception as error:
                return error

    def _workers(self) -> int:
        return int(self._client.scheduler_info(n_workers=0)["n_workers"])

    def cancel(self) -> None:
        """Let go of everything in flight."""
        self._client.cancel(list(self._tries), force=True)
        self._tries.clear()

    def _submit(self, attempt: Try) -> None:
        label = f"{secrets.token_hex(4)}-"
        attempt = replace(attempt, care=replace(attempt.care, label=label))
        key = f"chunk-{attempt.chunk.chunk_id}-{label}"
        what = (attempt.chunk, attempt.care, *([attempt.part] if attempt.part else []))
        future = self._client.submit(self._task, *what, key=key, pure=False)
        self._tries[future] = attempt
        self._done.add(future)

    def _next_try(self, died: Try) -> Try:
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
        return Try(chunk, care, None, unexplained, died.transient)
