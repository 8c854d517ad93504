"""One run, from what was asked to what came of it; how it is scheduled is not its matter.

`planned` makes a `Run` and has its workers come; a flow lets it work and looks at its progress. The
record is written when work starts and again when it ends, however it ends; the commits alone say
what is done.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pyarrow.dataset as ds

from segpipe.errors import SpecError
from segpipe.history import done_images, failed_images
from segpipe.planning.chunks import Planner
from segpipe.provenance.environment import describe_environment
from segpipe.provenance.record import (
    Device,
    FailedImage,
    PlanSummary,
    Status,
    WorkerKind,
    finish_record,
    start_record,
)
from segpipe.provenance.tally import Tally
from segpipe.readers import list_collection
from segpipe.records import Chunk, RunSummary
from segpipe.segmenters.catalog import ResolvedModel, resolve
from segpipe.segmenters.devices import device_count, device_name
from segpipe.spec import RunSpec, parse
from segpipe.store import Snapshot, create_store, open_store
from segpipe.store.files import Files
from segpipe.store.layout import run_file
from segpipe.store.leases import lease
from segpipe.store.plans import read_plan, write_plan
from segpipe.store.recover import recover
from segpipe.store.sums import seal, unseal

if TYPE_CHECKING:
    from segpipe.engine import Staff


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a run stands. `done` counts images of this run; `total` is known from the start."""

    done: int
    total: int
    ok: int
    failed: int
    objects: int
    seconds: float

    @property
    def rate(self) -> float:
        """Images per second so far."""
        return self.done / self.seconds if self.seconds > 0 else 0.0

    @property
    def seconds_left(self) -> float | None:
        """At the rate so far; None before the first image."""
        return (self.total - self.done) / self.rate if self.done else None


class Run:
    """A planned run.

    Attributes:
        run_id: sorts by the time of its start.
        plan: what there is to do.
    """

    def __init__(self, spec: RunSpec) -> None:
        """Resolve the model, open the store, list the collection, and write the plan.

        Raises:
            SpecError: something that was asked for cannot be done as asked.
            StoreError: the store's file system cannot keep its promises.
        """
        self._clock = time.perf_counter()
        started = datetime.now(UTC)
        self.spec = spec
        self.run_id = (
            f"{started:%Y%m%dT%H%M%S}{started.microsecond // 1000:03d}Z-{secrets.token_hex(3)}"
        )
        self.model: ResolvedModel = resolve(spec)
        self.files: Files = create_store(spec.store)
        self.files.probe()
        recover(self.files)
        self.plan = self._make_plan()
        self._tally = Tally()
        self._staff: Future[Staff]
        self._workers: tuple[WorkerKind, ...] = ()
        environment = describe_environment()
        device = self.model.spec.device
        name = device_name() if device == "cuda" else environment["cpu"]
        self._record = start_record(
            self.run_id,
            started,
            spec,
            self.model.spec,
            environment=environment,
            device=Device(device, name, self.model.spec.precision),
            threads=self.threads or 0,
            plan=self.plan,
        )
        self._planning = time.perf_counter() - self._clock

    @property
    def workers(self) -> int:
        """Local worker processes: as asked, or one per GPU, or one that uses every core."""
        if self.spec.workers is not None:
            return self.spec.workers
        return max(1, device_count()) if self.model.spec.device == "cuda" else 1

    @property
    def threads(self) -> int | None:
        """Computing threads of a worker; on an existing cluster, those it was started with."""
        if self.spec.dask_address is not None:
            return None
        return max(1, len(os.sched_getaffinity(0)) // self.workers)

    @property
    def memory(self) -> int | None:
        """Bytes that a worker may use; None where that was not said."""
        return None if self.spec.memory_gb is None else int(self.spec.memory_gb * 1e9)

    @contextmanager
    def staffed(self) -> Iterator[None]:
        """Inside the block the run has workers, if it needs any; they come while it goes on."""
        if not self.plan.chunks:
            yield
            return
        from segpipe.engine import Work, connect, staffed

        model, threads = self.model, self.threads
        work = Work(self.run_id, self.files.address, model.spec, model.weights_path, threads)
        cluster = connect(self.spec.dask_address, self.workers, self.memory, threads)
        with staffed(cluster, work) as self._staff:
            yield

    def process(self) -> Iterator[Progress]:
        """Do the plan, in a block of `staffed`, saying after each chunk where the run stands."""
        from segpipe.engine import run_chunks

        staff = self._staff.result()
        self._workers = staff.kinds
        for commit in run_chunks(staff, self._chunks()):
            self._tally.add(commit)
            yield self.progress
        staff.dismiss()

    @property
    def progress(self) -> Progress:
        tally = self._tally
        return Progress(
            done=tally.done,
            total=self.plan.images,
            ok=tally.ok,
            failed=tally.done - tally.ok,
            objects=tally.objects,
            seconds=time.perf_counter() - self._clock,
        )

    @property
    def summary(self) -> RunSummary:
        now = self.progress
        return RunSummary(
            run_id=self.run_id,
            store=self.spec.store,
            images=now.done + self.plan.skipped,
            ok=now.ok,
            failed=now.failed,
            skipped=self.plan.skipped,
            objects=now.objects,
            seconds=round(now.seconds, 3),
            images_per_second=round(now.rate, 3),
        )

    def failures(self, limit: int = 1000) -> list[FailedImage]:
        """The failed images of this run, at most `limit` of them."""
        # Whatever else is in the store, only chunks in which an image failed are looked into.
        failed = Snapshot(self.files).of_chunks(self._tally.failed_chunks[:limit])
        columns = ["path", "reason", "detail"]
        rows = failed.dataset("images").head(
            limit, columns=columns, filter=ds.field("status") == "failed"
        )
        return [FailedImage(**row) for row in rows.to_pylist()]

    @contextmanager
    def recorded(self) -> Iterator[None]:
        """Keep the run's lease and record: `running` in the block, and afterwards how it ended."""
        # What a server took to start meanwhile is not the run's.
        self._clock = time.perf_counter() - self._planning
        with lease(self.files, self.run_id):
            self._write_record()
            try:
                yield
            except BaseException as error:
                # Ctrl-C, and what Prefect makes of SIGTERM, are no `Exception`.
                status: Status = "failed" if isinstance(error, Exception) else "interrupted"
                with suppress(OSError):  # of a full disk, which is then what failed
                    self._finish_record(status, error)
                raise
            self._finish_record("completed")

    def _make_plan(self) -> PlanSummary:
        spec_id = self.model.spec.spec_id
        snapshot = Snapshot(self.files)
        size = self.spec.chunk_images
        if self.spec.retry:
            planner = Planner(spec_id, size, (), tried=failed_images(snapshot, spec_id))
        else:
            planner = Planner(spec_id, size, done_images(snapshot, spec_id))
        listing = list_collection(self.spec.source)
        counts = {"chunks": 0, "refused": 0}

        def counted() -> Iterator[Chunk]:
            for chunk in planner.chunks(listing):
                counts["chunks"] += 1
                counts["refused"] += sum(ref.refused is not None for ref in chunk.images)
                yield chunk

        digest = write_plan(self.files, self.run_id, counted())
        return PlanSummary(
            digest,
            images=planner.planned,
            skipped=planner.skipped,
            ignored=listing.ignored,
            **counts,
        )

    def _chunks(self) -> Iterator[Chunk]:
        return read_plan(self.files, self.run_id, self.model.spec.spec_id)

    def _finish_record(self, status: Status, error: BaseException | None = None) -> None:
        self._record = finish_record(
            self._record,
            status,
            datetime.now(UTC),
            tally=self._tally,
            workers=self._workers,
            failed=self.failures(),
            summary=self.summary,
            error=f"{type(error).__name__}: {error}" if error else None,
        )
        self._write_record()
        from segpipe.provenance.crate import crate_json

        crate = crate_json(self._record).encode()
        self.files.replace(run_file(self.run_id, "ro-crate-metadata.json"), crate)
        seal(self.files, self.run_id)

    def _write_record(self) -> None:
        unseal(self.files, self.run_id)
        self.files.replace(run_file(self.run_id, "record.json"), self._record.to_json().encode())


@contextmanager
def planned(spec: RunSpec) -> Iterator[Run]:
    """Inside the block a run is planned, and its workers come.

    Raises:
        SpecError: something that was asked for cannot be done as asked.
        StoreError: the store's file system cannot keep its promises.
    """
    run = Run(spec)
    with run.staffed():
        yield run


def failed_runs(store: str) -> list[RunSpec]:
    """What to ask for so that all failed images of a store are tried again: one spec per model.

    Raises:
        SpecError: a model is not what it was when they failed.
    """
    snapshot = open_store(store)
    newest = {record["spec_id"]: record for record in snapshot.records()}
    specs = []
    for spec_id, record in newest.items():
        if not failed_images(snapshot, spec_id):
            continue
        values = {**record["run_spec"], "store": store, "retry": True}
        spec = parse(RunSpec, values, f"the record of run {record['run_id']}")
        if resolve(spec).spec.spec_id != spec_id:
            raise SpecError(
                f"{spec.model}: is not what it was in run {record['run_id']} (other weights, "
                "options or version); `segpipe run` does all images with it as it is now"
            )
        specs.append(spec)
    return specs
