"""One run, from what was asked to what came of it; how it is scheduled is not its matter.

`planned` makes a `Run`, or several for the partitions of a large one; in the block of `staffed` it
has workers; a flow lets it work and looks at its progress. The record is written when its planning
starts, when its work does, and when it ends, however it ends; the commits alone say what is done.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pyarrow.dataset as ds

from segpipe.census import failed_specs
from segpipe.errors import SpecError
from segpipe.planner import write_plans
from segpipe.progress import Progress
from segpipe.provenance.environment import describe_environment
from segpipe.provenance.lineage import Tell, nobody, told_lineage
from segpipe.provenance.record import (
    FLOW_FILE,
    Device,
    FailedImage,
    Flow,
    PlanSummary,
    Status,
    WorkerKind,
    finish_record,
    start_record,
    started_at,
)
from segpipe.provenance.tally import Tally
from segpipe.records import Chunk, Commit, RunSummary, digest, new_run_id, partition_id
from segpipe.segmenters.catalog import ResolvedModel, resolve
from segpipe.segmenters.devices import device_count, device_name
from segpipe.spec import RunSpec, parse
from segpipe.store import Snapshot, create_store, open_store
from segpipe.store.chunk_results import write_chunk_results
from segpipe.store.files import Files
from segpipe.store.layout import run_file, run_folder
from segpipe.store.leases import lease
from segpipe.store.plans import read_plan
from segpipe.store.recover import recover
from segpipe.store.sums import seal, unseal

if TYPE_CHECKING:
    from segpipe.engine import Looked, Staff
    from segpipe.segmenters.base import Segmenter


class Run:
    """A planned run.

    Attributes:
        run_id: sorts by the time of its start.
        cluster: that does the work, with the numbers filled in that this machine decides.
        plan: what there is to do.
    """

    def __init__(
        self,
        run_id: str,
        spec: RunSpec,
        model: ResolvedModel,
        files: Files,
        plan: PlanSummary,
        clock: float | None = None,
        moved: Callable[[], None] = lambda: None,
    ) -> None:
        """
        Args:
            clock: `time.perf_counter()` when its planning began; None for a later partition, which
                begins when its work does.
            moved: called after each commit.
        """
        self.run_id = run_id
        self.spec = spec
        self.model = model
        self._gpus = device_count() if model.spec.device == "cuda" else 0
        self.cluster = spec.chosen_cluster.settled(len(os.sched_getaffinity(0)), self._gpus)
        self.files = files
        self.plan = plan
        self._clock = time.perf_counter() if clock is None else clock
        self._planning = time.perf_counter() - self._clock
        self._tally = Tally()
        self._moved = moved
        self._tell: Tell = nobody
        self._staff: Future[Staff]
        self._workers: tuple[WorkerKind, ...] = ()
        environment = describe_environment()
        device = model.spec.device
        name = device_name() if device == "cuda" else environment["cpu"]
        self._record = start_record(
            run_id,
            datetime.now(UTC) - timedelta(seconds=self._planning),
            spec,
            model.spec,
            environment=environment,
            device=Device(device, name, model.spec.precision),
            threads=self.cluster.cores or 0,
            plan=plan,
        )

    @contextmanager
    def staffed(self) -> Iterator[None]:
        """Inside the block the run has workers, if it needs any; they come while it goes on."""
        if not self.plan.chunks:
            yield
            return
        from segpipe.engine import Work, staffed

        model = self.model
        work = Work(
            self.run_id,
            self.files.address,
            model.spec,
            model.weights_path,
            self.cluster.cores,
            memory=self.cluster.memory,
        )
        with staffed(self.cluster, work, self._gpus) as self._staff:
            yield

    def process(self) -> Iterator[Progress]:
        """Do the plan, in a block of `staffed`, saying after each chunk where the run stands."""
        from segpipe.engine import run_chunks

        staff = self._staff.result()
        try:
            for answer in run_chunks(staff, self._chunks()):
                yield self._add(answer) if isinstance(answer, Commit) else self._looked(answer)
        finally:
            self._workers = staff.kinds
        staff.dismiss()

    def process_here(self, segmenter: Segmenter[Any, Any]) -> Iterator[Progress]:
        """Do the plan in this process, with a segmenter that is not built from a spec."""
        from segpipe.pipeline import process_chunk

        for chunk in self._chunks():
            yield self._add(process_chunk(chunk, segmenter, self.files, self.run_id))

    def _looked(self, looked: Looked) -> Progress:
        """A part of a large image is done, which counts as a sign of life."""
        self._moved()
        return replace(self.progress, parts=looked.done, all_parts=looked.total)

    def _add(self, commit: Commit) -> Progress:
        """Count a commit; a lineage server hears of every tenth of the work, the end apart."""
        before = self._tally.done
        self._tally.add(commit)
        self._moved()
        progress = self.progress
        tenths = [10 * done // max(1, progress.total) for done in (before, progress.done)]
        if tenths[0] < tenths[1] < 10:
            self._tell(replace(self._record, summary=self.summary))
        return progress

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
        """Keep the run's record: `running` in the block, and afterwards how it ended."""
        # What a server took to start meanwhile is not the run's.
        self._clock = time.perf_counter() - self._planning
        started = datetime.now(UTC) - timedelta(seconds=self._planning)
        self._record = started_at(self._record, started)
        self.write_record()
        with told_lineage() as self._tell:
            self._tell(self._record)
            try:
                yield
            except BaseException as error:
                # Ctrl-C, and what Prefect makes of SIGTERM, are no `Exception`.
                status: Status = "failed" if isinstance(error, Exception) else "interrupted"
                with suppress(OSError):  # of a full disk, which is then what failed
                    self._finish_record(status, error)
                    self._tell(self._record)
                raise
            self._finish_record("completed")
            self._tell(self._record)

    def led_by(self, flow: str, flow_run: str, source: bytes) -> None:
        """Before `recorded`: keep the flow that leads this run, its source included."""
        sha256 = hashlib.sha256(source).hexdigest()
        self.files.replace(run_file(self.run_id, FLOW_FILE), source)
        self._record = replace(self._record, flow=Flow(flow, flow_run, sha256))

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
        unseal(self.files, self.run_id)
        write_chunk_results(self.files, self.run_id, self._record.chunks)
        self.write_record()
        from segpipe.provenance.crate import crate_json

        crate = crate_json(self._record).encode()
        self.files.replace(run_file(self.run_id, "ro-crate-metadata.json"), crate)
        seal(self.files, self.run_id)

    def write_record(self) -> None:
        unseal(self.files, self.run_id)
        self.files.replace(run_file(self.run_id, "record.json"), self._record.to_json().encode())


@contextmanager
def planned(
    spec: RunSpec, partition_chunks: int | None = None, patience: float | None = None
) -> Iterator[tuple[Run, ...]]:
    """Inside the block a run is planned, and alive for others.

    Args:
        partition_chunks: chunks in a partition, each a run of its own; None for a single run.
        patience: seconds to wait for a live run that does the same work; None not to wait.

    Raises:
        SpecError: something that was asked for cannot be done as asked.
        StoreError: the store's file system cannot keep its promises.
        BusyError: another run was still at the same work when the patience was over.
    """
    model = resolve(spec)
    files = create_store(spec.store)
    files.probe()
    run_id = new_run_id(datetime.now(UTC))
    work = digest("work", spec.source, model.spec.spec_id)
    with lease(files, run_id, work, patience) as moved:
        clock = time.perf_counter()
        recover(files)
        with _beginning(Run(run_id, spec, model, files, PlanSummary.empty(), clock)):
            plans = write_plans(files, spec, model.spec.spec_id, run_id, partition_chunks)
        first, *later = plans
        yield (
            Run(run_id, spec, model, files, first, clock, moved),
            *(
                Run(partition_id(run_id, number), spec, model, files, plan, moved=moved)
                for number, plan in enumerate(later, start=2)
            ),
        )


@contextmanager
def _beginning(run: Run) -> Iterator[None]:
    """While a run is planned it has a record, which tells if it dies; if it fails it never was."""
    run.write_record()
    try:
        yield
    except BaseException:
        run.files.remove(run_folder(run.run_id))
        raise


def failed_runs(store: str) -> list[RunSpec]:
    """What to ask for so that all failed images of a store are tried again: one spec per model.

    Raises:
        SpecError: a model is not what it was when they failed.
    """
    snapshot = open_store(store)
    newest = {record["spec_id"]: record for record in snapshot.records()}
    specs = []
    for spec_id in failed_specs(snapshot):
        record = newest[spec_id]
        if record["segment_spec"]["model"]["kind"] == "truth":
            continue  # `segpipe import` brings it again
        values = {**record["run_spec"], "store": store, "retry": True}
        spec = parse(RunSpec, values, f"the record of run {record['run_id']}")
        if resolve(spec).spec.spec_id != spec_id:
            raise SpecError(
                f"{spec.model}: is not what it was in run {record['run_id']} (other weights, "
                "options or version); `segpipe run` does all images with it as it is now"
            )
        specs.append(spec)
    return specs
