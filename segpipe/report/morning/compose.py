"""From a night's runs to its morning: read, compare, choose, draw; and write it down."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

import pyarrow.parquet as pq

from segpipe.errors import SpecError
from segpipe.provenance.record import RunRecord
from segpipe.provenance.redact import redact_url
from segpipe.report.morning.candidates import CHOSEN
from segpipe.report.morning.changes import most_changed
from segpipe.report.morning.collect import Collected, collect
from segpipe.report.morning.drift import Comparison, compare
from segpipe.report.morning.nights import EarlierNights, earlier_nights
from segpipe.report.morning.pictures import draw_cards
from segpipe.report.morning.record import About, Counts, FailureLine, Morning, RunLine
from segpipe.report.morning.runs import chunks_of, night_statistics, read_run, runs_at_work
from segpipe.report.morning.statistics import NightStatistics
from segpipe.report.morning.wording import alarm_sentence, legible, moment, percent, plural
from segpipe.spec import Night, SegmentSpec, parse
from segpipe.store.files import Files
from segpipe.store.layout import run_file
from segpipe.store.reports import write_report
from segpipe.store.snapshot import Snapshot
from segpipe.store.tombstones import is_forgotten

MAX_MISSING = 20
"""Images that are gone, named one by one."""


def morning(snapshot: Snapshot, run_ids: Sequence[str], columns: Sequence[str] = ()) -> Morning:
    """What a night came to, and how it compares with those before; of one at work, so far.

    Reads the rows of the night, a bounded number at a time; of earlier nights, their statistics.

    Args:
        snapshot: made after the night's last commit.
        run_ids: of its runs, in order: one for each partition.
        columns: of `objects`, whose distributions are told beside those of count, area and score.

    Raises:
        SpecError: no run, one without a record, or no such column.
    """
    if not run_ids:
        raise SpecError("a morning is of one run at least; none was given")
    records = [read_run(snapshot.files, run_id) for run_id in run_ids]
    spec = parse(SegmentSpec, dict(records[-1].segment_spec), f"the spec of run {run_ids[-1]}")
    seed = int.from_bytes(hashlib.sha256("\n".join(run_ids).encode()).digest()[:4], "big")
    found = collect(snapshot, chunks_of(records), seed, columns, since=min(run_ids))
    at_work = runs_at_work(snapshot.files, records)
    tonight = night_statistics(records, found, at_work)
    asked = records[-1].run_spec.get("night") or {}
    limit = int(asked.get("compare_nights", Night().compare_nights))
    earlier = EarlierNights() if tonight.retry else earlier_nights(snapshot, tonight, limit)
    comparisons = compare(tonight, earlier.nights)
    changed = most_changed(snapshot, found.candidates.shortlist(), CHOSEN["change"])
    chosen = found.candidates.choose(
        tonight.objects_per_image.quantile(0.5), tonight.foreground.quantile(0.5), changed
    )
    lines = [_line(record, record.run_id in at_work) for record in records]
    counts, missing = _count(snapshot.files, records, tonight)
    return Morning(
        tonight=tonight,
        earlier=earlier.nights,
        runs=tuple(lines),
        about=_about(snapshot.files, records[-1]),
        counts=counts,
        comparisons=tuple(comparisons),
        failures=tuple(_reasons(tonight, found)),
        failed=tuple(found.failed),
        missing=missing,
        alarms=tuple(_alarms(snapshot.files, records, lines, tonight, comparisons, found)),
        notes=tuple(_notes(at_work, tonight, earlier, found)),
        cards=tuple(draw_cards(snapshot, chosen, tonight.model, spec.model.classes, spec.decoding)),
        per_image=found.per_image,
        columns=tuple(found.columns),
    )


def write_morning(files: Files, told: Morning) -> str:
    """Write page and statistics into the folder of the night's last run.

    Returns:
        The path of the page, relative to the store.

    Raises:
        SpecError: a run of it is still at work.
    """
    if told.at_work:
        raise SpecError(
            f"run {told.tonight.run_ids[-1]} is still at work; its page is kept in the store when "
            "it has ended, and can be written elsewhere before (--out)"
        )
    run_id = told.tonight.run_ids[-1]
    html, statistics = told.html().encode(), told.tonight.to_json().encode()
    return write_report(files, run_id, html, statistics)


def _line(record: RunRecord, at_work: bool) -> RunLine:
    status = "died" if record.status == "running" and not at_work else record.status
    return RunLine(record.run_id, status, record.started, record.ended, record.error)


def _about(files: Files, record: RunRecord) -> About:
    environment, model = record.environment, record.segment_spec["model"]
    git: dict[str, Any] = environment.get("git") or {}
    commit = str(git.get("commit") or "")[:12]
    version = str(environment.get("segpipe", "unknown"))
    if commit:
        version += f" ({commit}{', with changes' if git.get('dirty') else ''})"
    count = sum(kind.workers for kind in record.workers)
    threads = sorted({kind.threads for kind in record.workers})
    each = f", {'/'.join(map(str, threads))} threads each" if threads else ""
    return About(
        collection=str(record.run_spec.get("source", "")),
        store=redact_url(files.address),
        model=str(model["name"]),
        weights_sha256=model.get("weights_sha256"),
        licence=str(model.get("licence") or ""),
        spec_id=record.spec_id,
        device=record.device.name,
        precision=record.device.precision,
        workers=plural(count, "worker") + each if count else "none",
        platform=f"Python {environment.get('python', '?')}, {environment.get('platform', '?')}",
        version=version,
    )


def _count(
    files: Files, records: Sequence[RunRecord], tonight: NightStatistics
) -> tuple[Counts, tuple[str, ...]]:
    plans = [record.plan for record in records]
    planned, skipped = (sum(getattr(plan, key) for plan in plans) for key in ("images", "skipped"))
    told = [record for record in records if record.plan.missing is not None]
    gone, paths = 0, list[str]()
    for record in told:
        for since, path in _missing(files, record):
            if since in tonight.run_ids:
                gone += 1
                paths += [path] * (len(paths) < MAX_MISSING)
    counts = Counts(
        listed=planned + skipped,
        skipped=skipped,
        ignored=sum(plan.ignored for plan in plans),
        planned=planned,
        ok=tonight.ok,
        failed=tonight.failed,
        objects=tonight.objects,
        missing=sum(record.plan.missing or 0 for record in told) if told else None,
        missing_new=gone if told else None,
    )
    return counts, tuple(paths)


def _missing(files: Files, record: RunRecord) -> Iterator[tuple[str, str]]:
    """(since, path) of the images that a run did not find any more."""
    path = run_file(record.run_id, "missing.parquet")
    if not files.exists(path):
        return
    with pq.ParquetFile(path, filesystem=files.arrow()) as file:
        for batch in file.iter_batches(8192, columns=["since", "path"]):
            yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)


def _reasons(tonight: NightStatistics, found: Collected) -> Iterator[FailureLine]:
    examples = {image.reason: image for image in reversed(found.candidates.failed())}
    for reason, images in tonight.failures.items():
        example = examples[reason]
        yield FailureLine(reason, images, example.path, example.detail or "")


def _alarms(
    files: Files,
    records: Sequence[RunRecord],
    lines: Sequence[RunLine],
    tonight: NightStatistics,
    comparisons: Sequence[Comparison],
    found: Collected,
) -> Iterator[str]:
    for run in lines:
        if run.status not in ("completed", "running"):
            why = f": {legible(run.error, 300)}" if run.error else ""
            yield (
                f"Run {run.run_id} {run.status}{why}. Look at its log; what it committed stays, "
                "and the next run goes on from it."
            )
    yield from (alarm_sentence(one) for one in comparisons if one.alarm)
    allowed = float(records[-1].run_spec.get("max_failed", 1.0))
    told = any(one.alarm for one in comparisons if one.measure.key == "failed")
    if tonight.failed > allowed * tonight.images and not told:
        yield (
            f"Images that failed: {percent(tonight.failed / tonight.images)}, max_failed allows "
            f"{percent(allowed)}. Look at the reasons below."
        )
    forgotten = any(is_forgotten(files, record.run_id) for record in records)
    ended = all(run.status != "running" for run in lines)  # else it has committed more since
    if found.absent and ended and not forgotten:
        yield (
            f"{plural(found.absent, 'chunk')} of this night: expected in the store, and not there. "
            "Look at what `segpipe fsck` says."
        )


def _notes(
    at_work: Mapping[str, datetime],
    tonight: NightStatistics,
    earlier: EarlierNights,
    found: Collected,
) -> Iterator[str]:
    for run_id, until in at_work.items():
        yield (
            f"Run {run_id} is still at work; this tells what it had committed by "
            f"{moment(until.isoformat())}."
        )
    if tonight.retry:
        yield "A retry does only what failed before; it is not compared with other nights."
    if earlier.counted:
        yield (
            f"{plural(earlier.counted, 'earlier run')} had no statistics yet; their rows were "
            "counted again."
        )
    if earlier.left_out:
        yield (
            f"{plural(earlier.left_out, 'earlier run')} without statistics left out of the "
            "comparison: too many images to count again. `segpipe report --run` writes theirs."
        )
    if found.absent and not at_work:
        yield (
            f"{plural(found.absent, 'chunk')} of these runs not counted: results that were "
            "forgotten are not there any more."
        )
