"""The whole path of a chunk.

    survey    read every header: what cannot be read or does not fit is refused, the rest is
              ordered by shape and its memory planned
    load      read, decode, prepare                       thread 1
    answer    batches of one shape through the model      thread 2, the only one on the device
    record    objects, measures, masks, rows              this thread
    commit    look at the inputs again, then make it true

The three stages in the middle overlap (see `passes`). An image that fails travels the same path as
a `Failure` and becomes a row. Of an image that is too large to be seen whole all parts are looked
at before (see `large`), by this process or by others; here they are put together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, cast

import numpy as np

from segpipe.batching import Capacity
from segpipe.clock import StageClock
from segpipe.errors import InputError, Reason
from segpipe.items import Answered, Entry, Failure, Loaded, guarded
from segpipe.large.image import is_large
from segpipe.large.memory import large_cost
from segpipe.large.parts import NarrowHaloError
from segpipe.large.work import LargeWork, Part, kept_parts, look_at, open_work
from segpipe.measure.properties import measure_objects
from segpipe.passes import READ_AHEAD, answers
from segpipe.planning.memory import Cost, image_cost
from segpipe.provenance.tally import add_seconds
from segpipe.readers import Reader, Watchdog
from segpipe.records import Chunk, Commit, Header, ImageRef, Segmentation
from segpipe.rows import About, ChunkTables
from segpipe.segmenters.base import Segmenter
from segpipe.store.commits import Attempt
from segpipe.store.files import Files
from segpipe.store.masks import LabelOverflowError


@dataclass(frozen=True, slots=True)
class Care:
    """How to process a chunk that has killed a worker: one image at a time, leaving a crumb, and
    decoded in a process of its own.

    Attributes:
        label: part of the attempt's name, by which the crumb is found.
        careful: no overlap, no batches; a crumb before each image says which one is in work.
        quarantined: indices of images that are known to kill; they are not touched.
    """

    label: str = ""
    careful: bool = False
    quarantined: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Unfinished:
    """A chunk with large images, and their parts that are to be looked at before it can be done."""

    parts: tuple[Part, ...]


def process_chunk(
    chunk: Chunk,
    segmenter: Segmenter[Any, Any],
    files: Files,
    run_id: str,
    care: Care | None = None,
    watchdog: Watchdog | None = None,
    capacity: Capacity | None = None,
) -> Commit:
    """Segment a chunk and commit it, all in this process.

    Args:
        watchdog: ends this process when a decoder hangs; for one that is replaced when it dies.
        capacity: what there is room for; what is learnt of the device is added. None: no limits.

    Returns:
        The commit that stands, which is another attempt's if that was quicker. Its `seconds` tell
        also of the committing itself, which the file in the store cannot know.
    """
    capacity = capacity or Capacity()
    while True:
        done = begin_chunk(chunk, segmenter, files, run_id, care, watchdog, capacity)
        if isinstance(done, Commit):
            return done
        for part in done.parts:
            look_at(part, chunk, segmenter, files, capacity)


def begin_chunk(
    chunk: Chunk,
    segmenter: Segmenter[Any, Any],
    files: Files,
    run_id: str,
    care: Care | None,
    watchdog: Watchdog | None,
    capacity: Capacity,
) -> Commit | Unfinished:
    """As `process_chunk`, unless parts of a large image are left to look at, by whomever."""
    attempt = partial(_attempt, chunk, segmenter, files, run_id, care or Care(), watchdog, capacity)
    label_type: type[np.uint16 | np.uint32] = np.uint16
    while True:
        try:
            return attempt(label_type)
        except LabelOverflowError:
            label_type = np.uint32
        except _LookAgain:
            pass


@dataclass(frozen=True, slots=True)
class _Job:
    """What the stages of an attempt share."""

    chunk: Chunk
    segmenter: Segmenter[Any, Any]
    files: Files
    reader: Reader
    attempt: Attempt
    care: Care
    capacity: Capacity
    clock: StageClock

    @property
    def ahead(self) -> int:
        return 0 if self.care.careful else READ_AHEAD


def _attempt(
    chunk: Chunk,
    segmenter: Segmenter[Any, Any],
    files: Files,
    run_id: str,
    care: Care,
    watchdog: Watchdog | None,
    capacity: Capacity,
    label_type: type[np.uint16 | np.uint32],
) -> Commit | Unfinished:
    attempt = Attempt(files, chunk, run_id, care.label)
    clock = StageClock()
    try:
        with Reader(segmenter.spec.decoding, isolated=care.careful, watchdog=watchdog) as reader:
            job = _Job(chunk, segmenter, files, reader, attempt, care, capacity, clock)
            with clock.stage("survey"):
                entries, failures = _survey(job)
                small = [entry for entry in entries if not is_large(entry.header, segmenter.spec)]
                large, parts = _parts_due(entries, failures, job)
            if parts:
                attempt.discard()
                return Unfinished(parts)
            tables = ChunkTables(chunk, segmenter.spec, run_id, attempt, label_type)
            tables.plan_masks([entry.header.shape for entry in small], large=bool(large))
            for failure in failures:
                tables.add_failure(failure.ref, failure.error, failure.header)

            for item in answers(small, partial(_load, job), segmenter, capacity, clock, job.ahead):
                _record(item, segmenter, tables, clock)
            before = [stages for entry in large for stages in _put_together(entry, job, tables)]

            ceilings = capacity.ceilings.of(entry.header.shape for entry in small)
            with clock.stage("commit"):
                changed = reader.changed(chunk.images)
                seconds = add_seconds([clock.seconds(), *before])
                commit = tables.commit(changed, seconds, ceilings)
        for entry in large:
            kept_parts(files, chunk, entry.ref).units.clear()
        own = commit.attempt == attempt.name
        return replace(commit, seconds=add_seconds([clock.seconds(), *before])) if own else commit
    except BaseException:
        attempt.discard()
        raise


class _LookAgain(Exception):  # noqa: N818 - it is no error
    """A large image is cut in another way: its parts are to be looked at once more."""


def _survey(job: _Job) -> tuple[list[Entry], list[Failure]]:
    """Headers of all images; ordered by shape, so that batches of one shape are full."""
    entries: list[Entry] = []
    failures: list[Failure] = []
    for index, ref in enumerate(job.chunk.images):
        header: Header | None = None
        try:
            if index in job.care.quarantined:
                raise InputError(Reason.WORKER_DIED, "the worker process died on this image")
            if ref.refused:
                raise InputError(ref.refused, ref.refused_detail)
            if job.care.careful:
                job.attempt.leave_crumb(index)
            header = job.reader.header(ref)
            cost = _cost(ref, header, job)
            job.capacity.budget.check(cost)
            entries.append(Entry(index, ref, header, cost))
        except InputError as error:
            failures.append(Failure.of(ref, error, header))
    return sorted(entries, key=lambda entry: (entry.header.shape, entry.index)), failures


def _cost(ref: ImageRef, header: Header, job: _Job) -> Cost:
    if is_large(header, job.segmenter.spec):
        return large_cost(header, cast(Any, job.segmenter), job.capacity.budget.room)
    held, most = job.reader.held_bytes(ref), job.segmenter.spec.limits.max_file_bytes
    if held > most:  # which does not go for what is read by region
        raise InputError(
            Reason.TOO_LARGE, f"{held:,} bytes; the limit is {most:,} (limits.max_file_bytes)"
        )
    return image_cost(header, held, job.segmenter.footprint(header))


def _parts_due(
    entries: Sequence[Entry], failures: list[Failure], job: _Job
) -> tuple[list[Entry], tuple[Part, ...]]:
    """The large images, and their parts that nobody has looked at; adds those that fail."""
    large: list[Entry] = []
    parts: list[Part] = []
    for entry in entries:
        if not is_large(entry.header, job.segmenter.spec):
            continue
        if job.care.careful:
            job.attempt.leave_crumb(entry.index)
        try:
            with _work(entry, job) as work:
                due = work.parts_due(entry.index, partial(job.reader.sha256, entry.ref))
        except InputError as error:
            failures.append(Failure.of(entry.ref, error, entry.header))
        else:
            large.append(entry)
            parts += due
    return large, tuple(parts)


def _put_together(entry: Entry, job: _Job, tables: ChunkTables) -> Sequence[Mapping[str, float]]:
    """Record a large image whose parts were looked at; the seconds that they took."""
    if job.care.careful:
        job.attempt.leave_crumb(entry.index)
    masks = tables.large_masks(entry.ref, entry.header.shape)
    try:
        with _work(entry, job) as work, job.clock.stage("measure") as finishing:
            try:
                found = work.result(masks.write)
            except NarrowHaloError as error:
                if work.widen():
                    raise _LookAgain from error
                raise
    except InputError as error:
        masks.discard()
        tables.add_failure(entry.ref, error, entry.header)
        return ()
    about = About(entry.header, found.overview.sha256, found.overview.n_nonfinite)
    decode, forward, finish = found.seconds
    seconds = decode, forward, finish + finishing.seconds
    masks.georeference = found.georeference
    tables.add_large(entry.ref, about, found, found.measures, masks, seconds)
    return found.stages


def _work(entry: Entry, job: _Job) -> AbstractContextManager[LargeWork]:
    shape, ahead = entry.header.shape, job.ahead
    return open_work(job.chunk, entry.ref, shape, job.segmenter, job.files, job.capacity, ahead)


def _load(job: _Job, entry: Entry) -> Loaded | Failure:
    if job.care.careful:
        job.attempt.leave_crumb(entry.index)
    try:
        with job.clock.stage("decode") as decoding:
            image = job.reader.read(entry.ref)
        if image.header != entry.header:
            raise InputError(Reason.READ_ERROR, "the file was replaced while it was read")
        with job.clock.stage("preprocess") as preparing:
            prepared = guarded(job.segmenter.prepare, image)
    except InputError as error:
        return Failure.of(entry.ref, error, entry.header)
    return Loaded(entry, image, prepared, decoding.seconds + preparing.seconds)


def _record(
    item: Answered | Failure, segmenter: Segmenter[Any, Any], tables: ChunkTables, clock: StageClock
) -> None:
    if isinstance(item, Failure):
        tables.add_failure(item.ref, item.error, item.header)
        return
    entry, image = item.entry, item.image
    try:
        with clock.stage("postprocess") as finishing:
            segmentation: Segmentation = guarded(segmenter.finish, item.raw, image)
        with clock.stage("measure") as measuring:
            measures = guarded(measure_objects, segmentation, image.pixels)
    except InputError as error:
        tables.add_failure(entry.ref, error, image.header)
        return
    seconds = *item.seconds, finishing.seconds + measuring.seconds
    with clock.stage("write"):
        tables.add(entry.ref, image, segmentation, measures, seconds)
