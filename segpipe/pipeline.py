"""The whole path of a chunk.

    survey    read every header: what cannot be read or does not fit is refused, the rest is
              ordered by shape and its memory planned
    load      read, decode, prepare                       thread 1
    answer    batches of one shape through the model      thread 2, the only one on the device
    record    objects, measures, masks, rows              this thread
    commit    look at the inputs again, then make it true

The three stages in the middle overlap through queues that are bounded in number and in bytes (see
`planning.memory`); images that are too large for that go alone, at the end. An image that fails
travels the same path as a `Failure` and becomes a row.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from segpipe.batching import Capacity, answer
from segpipe.clock import StageClock
from segpipe.errors import InputError, Reason
from segpipe.items import Answered, Entry, Failure, Loaded, blame, waiting_bytes
from segpipe.measure.properties import measure_objects
from segpipe.overlap import overlap
from segpipe.planning.memory import image_cost, plan_passes
from segpipe.readers import Reader, Watchdog
from segpipe.records import Chunk, Commit, Header, Segmentation
from segpipe.rows import ChunkTables
from segpipe.segmenters.base import Segmenter
from segpipe.store.commits import Attempt
from segpipe.store.files import Files
from segpipe.store.masks import LabelOverflowError

READ_AHEAD = 8
"""Images that may wait between two stages, where memory allows it."""


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


def process_chunk(
    chunk: Chunk,
    segmenter: Segmenter[Any, Any],
    files: Files,
    run_id: str,
    care: Care | None = None,
    watchdog: Watchdog | None = None,
    capacity: Capacity | None = None,
) -> Commit:
    """Segment a chunk and commit it.

    Args:
        watchdog: ends this process when a decoder hangs; for one that is replaced when it dies.
        capacity: what there is room for; what is learnt of the device is added. None: no limits.

    Returns:
        The commit that stands, which is another attempt's if that was quicker. Its `seconds` tell
        also of the committing itself, which the file in the store cannot know.
    """
    attempt = partial(
        _attempt,
        chunk,
        segmenter,
        files,
        run_id,
        care or Care(),
        watchdog,
        capacity or Capacity(),
    )
    try:
        return attempt(np.uint16)
    except LabelOverflowError:
        return attempt(np.uint32)


@dataclass(frozen=True, slots=True)
class _Job:
    """What the stages of an attempt share."""

    segmenter: Segmenter[Any, Any]
    reader: Reader
    attempt: Attempt
    care: Care
    capacity: Capacity
    clock: StageClock


def _attempt(
    chunk: Chunk,
    segmenter: Segmenter[Any, Any],
    files: Files,
    run_id: str,
    care: Care,
    watchdog: Watchdog | None,
    capacity: Capacity,
    label_type: type[np.uint16 | np.uint32],
) -> Commit:
    attempt = Attempt(files, chunk, run_id, care.label)
    clock = StageClock()
    try:
        with Reader(segmenter.spec.decoding, isolated=care.careful, watchdog=watchdog) as reader:
            job = _Job(segmenter, reader, attempt, care, capacity, clock)
            with clock.stage("survey"):
                entries, failures = _survey(chunk, job)
            tables = ChunkTables(chunk, segmenter.spec, run_id, attempt, label_type)
            tables.plan_masks([entry.header.shape for entry in entries])
            for failure in failures:
                tables.add_failure(failure.ref, failure.error, failure.header)

            ahead = 0 if care.careful else READ_AHEAD
            costs = [entry.cost for entry in entries]
            batches = [segmenter.spec.batch_of(entry.header.shape) for entry in entries]
            for some in plan_passes(costs, capacity.budget.room, ahead, batches):
                members = [entries[index] for index in some.images]
                bounds = some.ahead, waiting_bytes, some.queue_bytes
                loaded = overlap((_load(entry, job) for entry in members), *bounds)
                loaded = clock.taking("wait_for_images", loaded)
                answered = answer(loaded, segmenter, some.batch, capacity, clock)
                answered = clock.giving("wait_for_room", answered)
                for item in overlap(answered, *bounds):
                    _record(item, segmenter, tables, clock)

            ceilings = capacity.ceilings.of(entry.header.shape for entry in entries)
            with clock.stage("commit"):
                changed = reader.changed(chunk.images)
                commit = tables.commit(changed, clock.seconds(), ceilings)
        own = commit.attempt == attempt.name
        return replace(commit, seconds=clock.seconds()) if own else commit
    except BaseException:
        attempt.discard()
        raise


def _survey(chunk: Chunk, job: _Job) -> tuple[list[Entry], list[Failure]]:
    """Headers of all images; ordered by shape, so that batches of one shape are full."""
    entries: list[Entry] = []
    failures: list[Failure] = []
    for index, ref in enumerate(chunk.images):
        header: Header | None = None
        try:
            if index in job.care.quarantined:
                raise InputError(Reason.WORKER_DIED, "the worker process died on this image")
            if ref.refused:
                raise InputError(ref.refused, ref.refused_detail)
            if job.care.careful:
                job.attempt.leave_crumb(index)
            header = job.reader.header(ref)
            cost = image_cost(header, job.reader.held_bytes(ref), job.segmenter.footprint(header))
            job.capacity.budget.check(cost)
            entries.append(Entry(index, ref, header, cost))
        except InputError as error:
            failures.append(Failure.of(ref, error, header))
    return sorted(entries, key=lambda entry: (entry.header.shape, entry.index)), failures


def _load(entry: Entry, job: _Job) -> Loaded | Failure:
    if job.care.careful:
        job.attempt.leave_crumb(entry.index)
    try:
        with job.clock.stage("decode") as decoding:
            image = job.reader.read(entry.ref)
        if image.header != entry.header:
            raise InputError(Reason.READ_ERROR, "the file was replaced while it was read")
        with job.clock.stage("preprocess") as preparing:
            prepared = _guarded(job.segmenter.prepare, image)
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
            segmentation: Segmentation = _guarded(segmenter.finish, item.raw, image)
        with clock.stage("measure") as measuring:
            measures = _guarded(measure_objects, segmentation, image.pixels)
    except InputError as error:
        tables.add_failure(entry.ref, error, image.header)
        return
    seconds = *item.seconds, finishing.seconds + measuring.seconds
    with clock.stage("write"):
        tables.add(entry.ref, image, segmentation, measures, seconds)


def _guarded(stage: Any, *arguments: Any) -> Any:
    """Run a stage of a segmenter; what it raises on one image is that image's failure."""
    try:
        return stage(*arguments)
    except (InputError, OSError):
        raise  # no stage reads its image: what the system refuses here, it refuses the process
    except Exception as error:
        raise blame(error) from error
