"""The nights before: their statistics, from a small file each, or else counted again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from segpipe.errors import SegpipeError
from segpipe.provenance.record import RunRecord
from segpipe.report.morning.collect import collect
from segpipe.report.morning.runs import night_statistics, read_run, runs_at_work
from segpipe.report.morning.statistics import NightStatistics
from segpipe.store.files import Files
from segpipe.store.layout import RUNS, run_file
from segpipe.store.reports import STATISTICS
from segpipe.store.snapshot import Snapshot
from segpipe.store.tombstones import is_forgotten

MAX_LOOKED = 2000
"""Earlier runs that are looked at, however many there are and whatever they did."""

MAX_COUNTED_IMAGES = 50_000
"""Images of earlier runs without statistics whose rows are read again, in all."""


@dataclass(frozen=True, slots=True)
class EarlierNights:
    """What there is to compare with.

    Attributes:
        nights: oldest first; of the same source and spec, with images, and no retries.
        counted: how many of them had no statistics of their own.
        left_out: runs that had none, and too many images to count them again.
    """

    nights: tuple[NightStatistics, ...] = ()
    counted: int = 0
    left_out: int = 0


def earlier_nights(snapshot: Snapshot, tonight: NightStatistics, limit: int) -> EarlierNights:
    """The last `limit` nights before this one."""
    nights: list[NightStatistics] = []
    room, counted, left_out = MAX_COUNTED_IMAGES, 0, 0
    for found in _candidates(snapshot.files, tonight):
        if len(nights) == limit:
            break
        if isinstance(found, RunRecord):
            images = sum(chunk.images for chunk in found.chunks)
            if images > room:
                left_out += 1
                continue
            room -= images
            counted += 1
            found = night_statistics([found], collect(snapshot, found.chunks))
        if found.images:
            nights.append(found)
    return EarlierNights(tuple(reversed(nights)), counted, left_out)


def _candidates(files: Files, tonight: NightStatistics) -> Iterator[NightStatistics | RunRecord]:
    """Nights of the same kind, newest first: statistics, or a record where there are none."""
    first = min(tonight.run_ids)
    before = sorted((name for name in files.names(RUNS) if name < first), reverse=True)
    members: set[str] = set()
    for run_id in before[:MAX_LOOKED]:
        if run_id in members or is_forgotten(files, run_id):
            continue
        night = read_statistics(files, run_id)
        if night is not None:
            members.update(night.run_ids)
            if _alike(tonight, night.source, night.spec_id) and not night.retry:
                yield night
            continue
        try:
            record = read_run(files, run_id)
        except SegpipeError:
            continue  # it has no record, or is damaged, which is for fsck to tell
        if runs_at_work(files, [record]):
            continue
        source = str(record.run_spec.get("source", ""))
        if _alike(tonight, source, record.spec_id) and not record.run_spec.get("retry"):
            yield record


def read_statistics(files: Files, run_id: str) -> NightStatistics | None:
    """Those in a run's folder; None where there are none that this segpipe reads."""
    path = run_file(run_id, STATISTICS)
    if not files.exists(path):
        return None
    try:
        return NightStatistics.from_json(files.read(path))
    except (ValueError, KeyError, TypeError):
        return None  # counted again; a damaged file is for fsck to tell


def _alike(tonight: NightStatistics, source: str, spec_id: str) -> bool:
    return (tonight.source, tonight.spec_id) == (source, spec_id)
