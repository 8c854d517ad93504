"""One run, from what was asked to what came of it; how it is scheduled is not its matter.

A flow makes a `Run`, hands it a cluster, and looks at its progress. The record is written when
work starts and again when it ends, however it ends; the commits alone say what is done.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pyarrow.dataset as ds

from segpipe.errors import SpecError
from segpipe.planning.chunks import Planner
from segpipe.provenance.crate import crate_json
from segpipe.provenance.environment import describe_environment
from segpipe.provenance.record import (
    Device,
    FailedImage,
    PlanSummary,
    Status,
    finish_record,
    start_record,
)
from segpipe.readers import list_collection
from segpipe.records import Chunk, Commit, ImageRef, RunSummary
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
    from distributed import Client


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


def check(spec: RunSpec) -> None:
    """A quick look at what was asked, before anything starts.

    Raises:
        SpecError: there is no such model, option or source, or the store cannot be one.
    """
    resolve(spec)
    next(iter(list_collection(spec.source)))  # An empty collection says so at its end.
    create_store(spec.store)


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
        self._commits: list[Commit] = []
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

    @property
    def workers(self) -> int:
        """Local worker processes: as asked, or one per GPU, or one that uses every core."""
        if self.spec.workers is not None:
            return self.spec.workers
        return device_count() if self.model.spec.device == "cuda" else 1

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

    def process(self, client: Client) -> Iterator[Progress]:
        """Do the plan on a cluster, saying after each chunk where the run stands."""
        from segpipe.engine import Work, run_chunks

        model = self.model
        work = Work(self.run_id, self.files.address, model.spec, model.weights_path, self.threads)
        for commit in run_chunks(client, work, self._chunks()):
            self._commits.append(commit)
            yield self.progress

    @property
    def progress(self) -> Progress:
        done = sum(commit.n_images for commit in self._commits)
        ok = sum(commit.n_ok for commit in self._commits)
        return Progress(
            done=done,
            total=self.plan.images,
            ok=ok,
            failed=done - ok,
            objects=sum(commit.n_objects for commit in self._commits),
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
        columns = ["path", "reason", "detail"]
        of_run = (ds.field("run_id") == self.run_id) & (ds.field("status") == "failed")
        rows = Snapshot(self.files).dataset("images").head(limit, columns=columns, filter=of_run)
        return [FailedImage(**row) for row in rows.to_pylist()]

    @contextmanager
    def recorded(self) -> Iterator[None]:
        """Keep the run's lease and record: `running` in the block, and afterwards how it ended."""
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
            commits=self._commits,
            failed=self.failures(),
            summary=self.summary,
            error=f"{type(error).__name__}: {error}" if error else None,
        )
        self._write_record()
        crate = crate_json(self._record).encode()
        self.files.replace(run_file(self.run_id, "ro-crate-metadata.json"), crate)
        seal(self.files, self.run_id)

    def _write_record(self) -> None:
        unseal(self.files, self.run_id)
        self.files.replace(run_file(self.run_id, "record.json"), self._record.to_json().encode())


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


def done_images(snapshot: Snapshot, spec_id: str) -> set[bytes]:
    """Identities of the images that are committed under a spec, failed ones included."""
    of_spec = ds.field("spec_id") == spec_id
    columns = ["uri", "path", "size_bytes", "mtime_ns"]
    batches = snapshot.dataset("images").to_batches(columns=columns, filter=of_spec)
    return {ImageRef(**row).identity for batch in batches for row in batch.to_pylist()}


def failed_images(snapshot: Snapshot, spec_id: str) -> dict[str, int]:
    """Of the images whose newest result under a spec is a failure: id -> number of results."""
    of_spec = ds.field("spec_id") == spec_id
    columns = ["image_id", "run_id", "status"]
    rows = snapshot.dataset("images").to_table(columns=columns, filter=of_spec)
    newest = rows.group_by("image_id").aggregate([("run_id", "max"), ("status", "count")])
    newest = newest.rename_columns({"run_id_max": "run_id", "status_count": "results"})
    failed = rows.filter(ds.field("status") == "failed").join(newest, ["image_id", "run_id"])
    found = zip(failed["image_id"].to_pylist(), failed["results"].to_pylist(), strict=True)
    return {image_id: results for image_id, results in found if results is not None}
