"""The runs of a night, and what their records say of them together."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from segpipe.errors import SpecError
from segpipe.provenance.record import Failures, RunRecord
from segpipe.provenance.runs import read_record
from segpipe.provenance.tally import ChunkResult, Tally, add_seconds
from segpipe.records import Commit
from segpipe.report.morning.collect import Collected
from segpipe.report.morning.statistics import NightStatistics, add_counts
from segpipe.store.chunk_results import read_chunk_results
from segpipe.store.commits import read_commit
from segpipe.store.files import Files
from segpipe.store.layout import RUNS, commit_file, run_file
from segpipe.store.leases import is_live, live_runs
from segpipe.store.plans import read_plan
from segpipe.store.reports import runs_of_night

_RECORD = "record.json"


def newest_night(files: Files, run_id: str | None = None) -> tuple[str, ...]:
    """The runs of the newest night that ended, or of the one that a run was part of.

    Where no run has ended yet, it is the one that is at work.

    Raises:
        SpecError: there is no such run, or none at all.
    """
    runs = sorted(files.names(RUNS), reverse=True)
    if run_id is not None and run_id not in runs:
        raise SpecError(f"no run {run_id!r} in this store; `segpipe show` lists them")
    live = live_runs(files)
    for name in runs:
        members = runs_of_night(files, name)
        if run_id in members or (run_id is None and members):
            return members
        told = run_id is None and name not in live and _is_of_a_model(files, name)
        if told or name == run_id:
            return (name,)  # it has no page yet
    if at_work := [name for name in runs if name in live and _is_of_a_model(files, name)]:
        return (at_work[0],)
    raise SpecError(f"{files.address}: no run in this store has ended yet")


def _is_of_a_model(files: Files, run_id: str) -> bool:
    """Whether a run has a record, and is no import of a truth."""
    path = run_file(run_id, _RECORD)
    if not files.exists(path):
        return False
    model = json.loads(files.read(path)).get("segment_spec", {}).get("model", {})
    return bool(model.get("kind") != "truth")


def read_run(files: Files, run_id: str) -> RunRecord:
    """The record of a run; of one that died or is at work, with the chunks that it has committed.

    Raises:
        SpecError: it has none.
    """
    path = run_file(run_id, _RECORD)
    if not files.exists(path):
        raise SpecError(f"run {run_id!r}: has no {_RECORD}; `segpipe show` lists those that have")
    record = read_record(files, run_id)
    if record.status != "running":
        return (
            record if record.chunks else replace(record, chunks=read_chunk_results(files, run_id))
        )
    tally = Tally(_own_commits(files, record))
    return replace(
        record,
        chunks=tuple(tally.chunks),
        seconds=tally.seconds,
        failures=Failures(dict(tally.failures)),
        outputs=tally.outputs,
    )


def _own_commits(files: Files, record: RunRecord) -> Iterator[Commit]:
    """What a run committed, by its plan; nothing if it died while it planned."""
    if not files.exists(run_file(record.run_id, "plan.parquet")):
        return
    for chunk in read_plan(files, record.run_id, record.spec_id):
        if files.exists(commit_file(chunk.chunk_id)):
            commit = read_commit(files, chunk.chunk_id)
            if commit.run_id == record.run_id:
                yield commit


def chunks_of(records: Sequence[RunRecord]) -> list[ChunkResult]:
    """All chunks of all runs, each once."""
    chunks = {chunk.chunk_id: chunk for record in records for chunk in record.chunks}
    return list(chunks.values())


def runs_at_work(files: Files, records: Iterable[RunRecord]) -> dict[str, datetime]:
    """Those that say that they are running and renew their leases; and until when they are told."""
    live, now = live_runs(files), datetime.now(UTC)
    return {
        record.run_id: now
        for record in records
        if record.status == "running" and is_live(record.run_id, live)
    }


def night_statistics(
    records: Sequence[RunRecord], found: Collected, at_work: Mapping[str, datetime] | None = None
) -> NightStatistics:
    """One night of one or several runs.

    Args:
        records: of its runs, in order.
        found: what their rows say.
        at_work: the time until which runs are told that have not ended.
    """
    last = records[-1]
    ended = [record.ended for record in records if record.ended]
    return NightStatistics(
        run_ids=tuple(record.run_id for record in records),
        source=str(last.run_spec.get("source", "")),
        spec_id=last.spec_id,
        model=str(last.segment_spec["model"]["name"]),
        device=last.device.name,
        started=min(record.started for record in records),
        ended=max(ended) if len(ended) == len(records) else None,
        retry=any(bool(record.run_spec.get("retry")) for record in records),
        images=found.images,
        ok=found.ok,
        objects=found.objects,
        failures=add_counts([found.failures]),
        seconds=_wall_seconds(records, at_work or {}),
        stages=add_seconds(record.seconds for record in records),
        empty=found.empty,
        saturated=found.saturated,
        objects_per_image=found.objects_per_image,
        foreground=found.foreground,
        area=found.area,
        score=found.score,
    )


def _wall_seconds(records: Sequence[RunRecord], at_work: Mapping[str, datetime]) -> float | None:
    """Time in which a run was at work; runs side by side count once. None if one does not say."""
    spans = []
    for record in records:
        if record.run_id in at_work:
            spans.append((datetime.fromisoformat(record.started), at_work[record.run_id]))
            continue
        if record.summary is None or record.ended is None:
            return None
        with suppress(ValueError):
            end = datetime.fromisoformat(record.ended)
            spans.append((end - timedelta(seconds=record.summary.seconds), end))
    total, until = timedelta(), None
    for start, end in sorted(spans):
        begin = start if until is None else max(start, until)
        total += max(timedelta(), end - begin)
        until = end if until is None else max(until, end)
    return round(total.total_seconds(), 3)
