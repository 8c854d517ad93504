"""From what a collection holds to the plans of a run: list it, count what is due, cut, write."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import chain, islice

import pyarrow as pa

from segpipe.census import Census, census, listing_batches
from segpipe.errors import InputError
from segpipe.planning.chunks import Due, cut
from segpipe.provenance.record import PlanSummary
from segpipe.readers import Reader, list_collection
from segpipe.records import Chunk, partition_id
from segpipe.spec import Limits, RunSpec
from segpipe.store import Snapshot
from segpipe.store.files import Files
from segpipe.store.missing import missing_images, write_missing
from segpipe.store.plans import write_plan

HASHING_THREADS = 8
"""For `verify_content`; they wait for the disk or the network more than they compute."""


def write_plans(
    files: Files, spec: RunSpec, spec_id: str, run_id: str, partition_chunks: int | None = None
) -> tuple[PlanSummary, ...]:
    """Plan what is due under a spec. Memory holds two chunks, whatever the collection's size.

    Args:
        run_id: of the run that does the plan, or the first partition of it.
        partition_chunks: chunks in a partition; None for one partition.

    Returns:
        Of each partition; at least one, which may have nothing to do. What was skipped, ignored
        or missing is told by the first.

    Raises:
        SpecError: the collection cannot be listed, or is empty.
        StoreError: what the store knows of it cannot be read.
    """
    listing = list_collection(spec.source)
    batches = listing_batches(listing)
    first, *later = plan_listing(
        files, spec, spec_id, run_id, batches, listing.place, partition_chunks
    )
    return replace(first, ignored=listing.ignored), *later


def plan_listing(
    files: Files,
    spec: RunSpec,
    spec_id: str,
    run_id: str,
    batches: Iterable[pa.RecordBatch],
    place: str | None = None,
    partition_chunks: int | None = None,
) -> list[PlanSummary]:
    """As `write_plans`, for a listing that is given.

    Args:
        batches: with the columns of `census.LISTING`.
        place: what the uris of the listing begin with, if it holds every image of that place.
    """
    snapshot = Snapshot(files)
    with census(batches, snapshot, spec_id) as counted:
        chunks = cut(spec_id, spec.chunk_images, _due(counted, spec), counted.listed)
        plans = [
            _write(files, partition_id(run_id, number), part)
            for number, part in enumerate(_partitions(chunks, partition_chunks), start=1)
        ]
        missing = None
        if place is not None:
            before = missing_images(files, snapshot.records(), place)
            missing = write_missing(files, run_id, counted.missing(place), before)
    skipped = counted.listed - sum(plan.images for plan in plans)
    plans[0] = replace(plans[0], skipped=skipped, place=place, missing=missing)
    return plans


def _due(counted: Census, spec: RunSpec) -> Iterator[Due]:
    if spec.retry:
        return counted.failed()
    if spec.verify_content:
        return _changed(counted, spec.limits)
    return counted.due()


def _changed(counted: Census, limits: Limits) -> Iterator[Due]:
    """Images that are new, or whose bytes are not those of their newest result.

    Where a result says nothing of the bytes, since they could not be read, size and time decide.
    """
    rows = counted.with_content()
    with Reader(limits) as reader, ThreadPoolExecutor(HASHING_THREADS) as threads:

        def is_due(row: tuple[Due, str | None, bool]) -> bool:
            due, sha256, same = row
            if sha256 is None:
                return not same
            try:
                return reader.sha256(due.ref) != sha256
            except InputError:
                return True  # what is wrong with it now is its new result

        while some := list(islice(rows, 4 * HASHING_THREADS)):
            answers = threads.map(is_due, some)
            yield from (due for (due, _, _), answer in zip(some, answers, strict=True) if answer)


def _partitions(chunks: Iterator[Chunk], most: int | None) -> Iterator[Iterator[Chunk]]:
    """The chunks in parts, each to be used up before the next; the first may be empty."""
    yield islice(chunks, most)
    for first in chunks:
        yield chain([first], islice(chunks, None if most is None else most - 1))


def _write(files: Files, run_id: str, chunks: Iterable[Chunk]) -> PlanSummary:
    counts = Counter[str]()

    def counted() -> Iterator[Chunk]:
        for chunk in chunks:
            counts["chunks"] += 1
            counts["images"] += len(chunk.images)
            counts["refused"] += sum(ref.refused is not None for ref in chunk.images)
            yield chunk

    digest = write_plan(files, run_id, counted())
    return PlanSummary(digest, counts["chunks"], counts["images"], 0, counts["refused"])
