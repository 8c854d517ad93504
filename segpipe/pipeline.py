"""The whole path of a chunk.

    survey    read every header: what cannot be read is refused, the rest is ordered by shape
    load      read, decode, prepare                       thread 1
    answer    batches of one shape through the model      thread 2, the only one on the device
    record    objects, measures, masks, rows              this thread
    commit    look at the inputs again, then make it true

The three stages in the middle overlap through bounded queues: at most `READ_AHEAD` images wait
before a stage. An image that fails travels the same path as a `Failure` and becomes a row.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from segpipe.errors import InputError, Reason
from segpipe.measure.properties import measure_objects
from segpipe.overlap import overlap
from segpipe.readers import Reader
from segpipe.records import Chunk, Commit, DecodedImage, Header, ImageRef, Segmentation
from segpipe.rows import ChunkTables
from segpipe.segmenters.base import DeviceMemoryError, Segmenter
from segpipe.store.commits import Attempt
from segpipe.store.files import Files
from segpipe.store.masks import LabelOverflowError

READ_AHEAD = 8
"""Images that may wait between two stages; bounds a chunk's memory."""


@dataclass(frozen=True, slots=True)
class Entry:
    """An image that can probably be read."""

    index: int
    ref: ImageRef
    header: Header


@dataclass(frozen=True, slots=True)
class Failure:
    """An image without a result."""

    ref: ImageRef
    error: InputError
    header: Header | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Loaded:
    """An image in memory, ready for the model."""

    entry: Entry
    image: DecodedImage
    prepared: Any
    seconds: float


@dataclass(frozen=True, slots=True, eq=False)
class Answered:
    """What the model said of an image."""

    loaded: Loaded
    raw: Any
    seconds: float


@dataclass(frozen=True, slots=True)
class Care:
    """How to process a chunk that has killed a worker: one image at a time, leaving a crumb.

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
) -> Commit:
    """Segment a chunk and commit it.

    Returns:
        The commit that stands, which is another attempt's if that was quicker.
    """
    care = care or Care()
    try:
        return _attempt(chunk, segmenter, files, run_id, care, np.uint16)
    except LabelOverflowError:
        return _attempt(chunk, segmenter, files, run_id, care, np.uint32)


def _attempt(
    chunk: Chunk,
    segmenter: Segmenter[Any, Any],
    files: Files,
    run_id: str,
    care: Care,
    label_type: type[np.uint16 | np.uint32],
) -> Commit:
    attempt = Attempt(files, chunk, run_id, care.label)
    started = time.perf_counter()
    try:
        with Reader(segmenter.spec.limits) as reader:
            entries, failures = _survey(chunk, reader, attempt, care)
            tables = ChunkTables(chunk, segmenter.spec, run_id, attempt, label_type)
            tables.plan_masks([entry.header.shape for entry in entries])
            for failure in failures:
                tables.add_failure(failure.ref, failure.error, failure.header)

            ahead = 0 if care.careful else READ_AHEAD
            batch = 1 if care.careful else segmenter.spec.batch_images
            loaded = overlap(_load(entries, reader, segmenter, attempt, care), ahead)
            answered = overlap(_answer(loaded, segmenter, batch), ahead)
            for item in answered:
                _record(item, segmenter, tables)

            changed = {ref.image_id for ref in chunk.images if not reader.unchanged(ref)}
        return tables.commit(changed, time.perf_counter() - started)
    except BaseException:
        attempt.discard()
        raise


def _survey(
    chunk: Chunk, reader: Reader, attempt: Attempt, care: Care
) -> tuple[list[Entry], list[Failure]]:
    """Headers of all images; ordered by shape, so that batches of one shape are full."""
    entries: list[Entry] = []
    failures: list[Failure] = []
    for index, ref in enumerate(chunk.images):
        try:
            if index in care.quarantined:
                raise InputError(Reason.WORKER_DIED, "the worker process died on this image")
            if ref.refused:
                raise InputError(ref.refused, ref.refused_detail)
            if care.careful:
                attempt.leave_crumb(index)
            entries.append(Entry(index, ref, reader.header(ref)))
        except InputError as error:
            failures.append(Failure(ref, error))
    return sorted(entries, key=lambda entry: (entry.header.shape, entry.index)), failures


def _load(
    entries: Iterable[Entry],
    reader: Reader,
    segmenter: Segmenter[Any, Any],
    attempt: Attempt,
    care: Care,
) -> Iterator[Loaded | Failure]:
    for entry in entries:
        started = time.perf_counter()
        if care.careful:
            attempt.leave_crumb(entry.index)
        try:
            image = reader.read(entry.ref)
            if image.header.shape != entry.header.shape:
                raise InputError(Reason.READ_ERROR, "the file was replaced while it was read")
            prepared = _guarded(segmenter.prepare, image)
        except InputError as error:
            yield Failure(entry.ref, error, entry.header)
        else:
            yield Loaded(entry, image, prepared, time.perf_counter() - started)


def _answer(
    loaded: Iterable[Loaded | Failure], segmenter: Segmenter[Any, Any], size: int
) -> Iterator[Answered | Failure]:
    batch: list[Loaded] = []
    for item in loaded:
        if isinstance(item, Failure):
            yield item
            continue
        if batch and item.entry.header.shape != batch[0].entry.header.shape:
            yield from _forward(batch, segmenter)
            batch = []
        batch.append(item)
        if len(batch) == size:
            yield from _forward(batch, segmenter)
            batch = []
    yield from _forward(batch, segmenter)


def _forward(
    batch: Sequence[Loaded], segmenter: Segmenter[Any, Any]
) -> Iterator[Answered | Failure]:
    """One batch; halved where the device's memory is too small, and image by image on an error."""
    if not batch:
        return
    started = time.perf_counter()
    try:
        raws = segmenter.forward([item.prepared for item in batch])
    except DeviceMemoryError as error:
        if len(batch) == 1:
            out_of_memory = InputError(Reason.DEVICE_OUT_OF_MEMORY, str(error))
            yield Failure(batch[0].entry.ref, out_of_memory, batch[0].entry.header)
        else:
            half = len(batch) // 2
            yield from _forward(batch[:half], segmenter)
            yield from _forward(batch[half:], segmenter)
    except Exception as error:
        if len(batch) == 1:
            yield Failure(batch[0].entry.ref, _blame(error), batch[0].entry.header)
        else:
            for item in batch:
                yield from _forward([item], segmenter)
    else:
        share = (time.perf_counter() - started) / len(batch)
        for item, raw in zip(batch, raws, strict=True):
            yield Answered(item, raw, share)


def _record(item: Answered | Failure, segmenter: Segmenter[Any, Any], tables: ChunkTables) -> None:
    if isinstance(item, Failure):
        tables.add_failure(item.ref, item.error, item.header)
        return
    entry, image = item.loaded.entry, item.loaded.image
    started = time.perf_counter()
    try:
        segmentation: Segmentation = _guarded(segmenter.finish, item.raw, image)
        measures = _guarded(measure_objects, segmentation, image.pixels)
    except InputError as error:
        tables.add_failure(entry.ref, error, image.header)
        return
    seconds = item.loaded.seconds, item.seconds, time.perf_counter() - started
    tables.add(entry.ref, image, segmentation, measures, seconds)


def _guarded(stage: Any, *arguments: Any) -> Any:
    """Run a stage of a segmenter; what it raises on one image is that image's failure."""
    try:
        return stage(*arguments)
    except InputError:
        raise
    except Exception as error:
        raise _blame(error) from error


def _blame(error: Exception) -> InputError:
    return InputError(Reason.SEGMENTER_ERROR, f"{type(error).__name__}: {error}"[:500])
