"""What it takes to plan a very large archive: time, memory, and what the plan comes to.

The archive is generated, names, sizes and times, and so is what the store knows of its images; only
`list_files` has a real folder, of empty files. Each is measured in a process of its own, whose peak
of memory is told.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.compute as pc

from segpipe.bench.processes import peak_bytes
from segpipe.census import LISTING
from segpipe.errors import SegpipeError
from segpipe.planner import plan_listing
from segpipe.readers import list_collection
from segpipe.schema import arrow_schema
from segpipe.spec import RunSpec
from segpipe.store import create_store, layout
from segpipe.store.plans import read_plan
from segpipe.store.tables import encode_table

PLACE = "file:///archive/"
SPEC_ID = "0" * 64
BATCH = 65_536


@dataclass(frozen=True, slots=True)
class Planned:
    """What planning came to.

    Attributes:
        listed: images of the archive.
        planned: of them, to be done.
        seconds: until the plan was written; `reading` to read it again, chunk by chunk.
        peak, base: bytes of memory of the process, at most, and before it began.
        plan_bytes: of the files of the plan.
    """

    listed: int
    planned: int
    chunks: int
    partitions: int
    seconds: float
    reading: float
    peak: int
    base: int
    plan_bytes: int


@dataclass(frozen=True, slots=True)
class Listed:
    """What listing a folder came to; memory as in `Planned`."""

    images: int
    seconds: float
    peak: int
    base: int


@dataclass(frozen=True, slots=True)
class Archive:
    """An archive to simulate.

    Attributes:
        images: in it.
        new: of them, not in the store yet.
        part_images: images in a Parquet part of the store.
    """

    images: int
    new: int
    part_images: int = 1_000_000
    chunk_images: int = 64
    partition_chunks: int = 10_000


def first_night(archive: Archive, folder: Path) -> Planned:
    """All images are new.

    Raises:
        SegpipeError: the process that planned did not end well.
    """
    return _plan_in_a_process(replace(archive, new=archive.images), folder / "first")


def later_night(archive: Archive, folder: Path) -> Planned:
    """All but `archive.new` images are in the store.

    Raises:
        SegpipeError: the process that planned did not end well.
    """
    store = folder / "later"
    make_store(store, archive.images - archive.new, archive.part_images)
    return _plan_in_a_process(archive, store)


def make_store(store: Path, images: int, part_images: int) -> None:
    """A store whose table of images knows the first `images` of the archive."""
    files = create_store(store)
    for start in range(0, images, part_images):
        count = min(part_images, images - start)
        columns = {field.name: pa.nulls(count, field.type) for field in arrow_schema("images")}
        listed = _entries(start, count)
        columns |= {name: listed[name] for name in ("uri", "path", "size_bytes", "mtime_ns")}
        same = {"run_id": "20260101T000000000Z-000000", "spec_id": SPEC_ID, "status": "ok"}
        columns |= {name: pa.repeat(pa.scalar(value), count) for name, value in same.items()}
        columns["image_id"] = listed["path"]  # as unique, and quicker than a hash
        columns["chunk_id"] = columns["run_id"]
        table = pa.table(columns, schema=arrow_schema("images"))
        part = layout.published_part(f"{start:032d}", "images")
        files.write(part, encode_table("images", table))


def list_files(images: int, folder: Path) -> Listed:
    """Make so many empty files, a thousand in a folder, and list them.

    Raises:
        SegpipeError: the process that listed did not end well.
    """
    for number in range(images):
        path = folder / "files" / f"plate-{number // 1000:07d}" / f"field-{number:010d}.tif"
        if number % 1000 == 0:
            path.parent.mkdir(parents=True)
        path.touch()
    return Listed(**_in_a_process("list", str(folder / "files")))


def list_folder(folder: str) -> Listed:
    """List a folder, in this process."""
    base, began = peak_bytes(psutil.Process()), time.perf_counter()
    images = sum(1 for _ in list_collection(folder))
    seconds = time.perf_counter() - began
    return Listed(images, seconds, peak_bytes(psutil.Process()), base)


def plan(archive: Archive, store: Path) -> Planned:
    """Plan a night over the archive, in this process."""
    files = create_store(store)
    spec = RunSpec(source="/archive", store=str(store), chunk_images=archive.chunk_images)
    base, began = peak_bytes(psutil.Process()), time.perf_counter()
    plans = plan_listing(
        files, spec, SPEC_ID, "night", listing(archive.images), PLACE, archive.partition_chunks
    )
    planned = time.perf_counter()
    folders = sorted(files.names(layout.RUNS))
    chunks = sum(1 for run_id in folders for _ in read_plan(files, run_id, SPEC_ID))
    ended = time.perf_counter()
    return Planned(
        listed=archive.images,
        planned=sum(one.images for one in plans),
        chunks=chunks,
        partitions=len(plans),
        seconds=planned - began,
        reading=ended - planned,
        peak=peak_bytes(psutil.Process()),
        base=base,
        plan_bytes=sum(files.size(layout.run_folder(run_id)) for run_id in folders),
    )


def listing(images: int) -> Iterator[pa.RecordBatch]:
    """The entries of the archive, as a folder's listing would give them."""
    for start in range(0, images, BATCH):
        yield _entries(start, min(BATCH, images - start))


def _entries(start: int, count: int) -> pa.RecordBatch:
    numbers = np.arange(start, start + count)
    field, plate = (
        pc.utf8_lpad(pa.array(values).cast(pa.string()), width, "0")
        for values, width in ((numbers, 10), (numbers // 1000, 7))
    )
    path = pc.binary_join_element_wise("plate-", plate, "/field-", field, ".tif", "")
    columns = {
        "uri": pc.binary_join_element_wise(PLACE, path, ""),
        "path": path,
        "size_bytes": pa.array(500_000 + numbers % 1000),
        "mtime_ns": pa.array(1_700_000_000_000_000_000 + numbers),
        "refused_detail": pa.repeat(pa.scalar(""), count),
    }
    nothing = pa.nulls(count, pa.string())
    arrays = [columns.get(name, nothing) for name in LISTING.names]
    return pa.record_batch(arrays, schema=LISTING)


def _plan_in_a_process(archive: Archive, store: Path) -> Planned:
    return Planned(**_in_a_process("plan", json.dumps(asdict(archive)), str(store)))


def _in_a_process(*arguments: str) -> dict[str, Any]:
    command = [sys.executable, "-m", __name__, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - ours
    if done.returncode:
        raise SegpipeError(f"{arguments[0]} ended with {done.returncode}: {done.stderr[-500:]}")
    outcome: dict[str, Any] = json.loads(done.stdout)
    return outcome


def _main(what: str, *arguments: str) -> Planned | Listed:
    if what == "list":
        return list_folder(*arguments)
    archive, store = arguments
    return plan(Archive(**json.loads(archive)), Path(store))


if __name__ == "__main__":
    sys.stdout.write(json.dumps(asdict(_main(*sys.argv[1:]))))
