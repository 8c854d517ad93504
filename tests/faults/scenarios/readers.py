"""Readers that know nothing of segpipe, and `segpipe query`, while runs write and compact."""

from __future__ import annotations

import queue
import random
import time
from collections.abc import Callable, Iterator, Mapping
from itertools import count
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any, NamedTuple

from segpipe.pipeline import process_chunk
from segpipe.query import query
from segpipe.records import Chunk
from segpipe.store import create_store, open_store
from segpipe.store.compaction import compact
from segpipe.store.files import LocalFiles
from tests.faults.scenarios.runs import SPAWN, Violations
from tests.generated import SPEC, ThresholdSegmenter, make_collection, refs

CHUNK_IMAGES = 6
ROUND_SECONDS = 20.0
"""After which the store is as large as it should become; then a new one begins."""


class Seen(NamedTuple):
    """What a reader sees of a chunk; `promised` is the sum of `n_objects` of its images."""

    chunk_id: str
    images: int
    promised: int
    objects: int


def read_while_runs_write(seconds: int, rng: random.Random, folder: Path) -> Iterator[Violations]:
    """DuckDB, polars and pandas on plain globs, and `segpipe query`, for so many seconds."""
    images = make_collection(folder / "images", 2 * CHUNK_IMAGES)
    end = time.monotonic() + seconds
    for number in count():
        left = end - time.monotonic()
        if left <= 0:
            return
        yield from _round(folder / f"store-{number}", images, min(left, ROUND_SECONDS))


def _round(root: Path, images: Path, seconds: float) -> Iterator[Violations]:
    create_store(root)
    _write_all(root, images, 0)  # a glob without any file is an error of its own
    stop, reads = SPAWN.Event(), SPAWN.Queue()
    processes = [
        SPAWN.Process(target=_write, args=(root, images, stop), name="writer"),
        SPAWN.Process(target=_compact, args=(root, stop), name="compactor"),
        *(SPAWN.Process(target=_read, args=(look, root, stop, reads)) for look in LOOKS),
    ]
    for process in processes:
        process.start()
    end = time.monotonic() + seconds
    while any(process.is_alive() for process in processes) or not reads.empty():
        if time.monotonic() > end:
            stop.set()
        try:
            yield reads.get(timeout=0.1)
        except queue.Empty:
            continue
    if found := [f"{p.name} ended with {p.exitcode}" for p in processes if p.exitcode]:
        yield found


def _write(root: Path, images: Path, stop: Event) -> None:
    """The same images again and again, as if they had to be tried again."""
    for generation in count(1):
        if stop.is_set():
            return
        _write_all(root, images, generation)


def _write_all(root: Path, images: Path, generation: int) -> None:
    members = refs(images)
    for first in range(0, len(members), CHUNK_IMAGES):
        chunk = Chunk(SPEC.spec_id, members[first : first + CHUNK_IMAGES], generation)
        process_chunk(chunk, ThresholdSegmenter(), LocalFiles(root), f"run-{generation:06d}")


def _compact(root: Path, stop: Event) -> None:
    while not stop.wait(0.5):
        compact(LocalFiles(root))


def _read(name: str, root: Path, stop: Event, reads: Any) -> None:
    before = 0
    while not stop.is_set():
        try:
            seen = LOOKS[name](root)
        except Exception as error:
            reads.put([f"{name}: {type(error).__name__}: {error}"])
            continue
        reads.put([f"{name}: {problem}" for problem in _problems(seen, before)])
        before = len(seen)


def _problems(seen: list[Seen], before: int) -> Iterator[str]:
    if len(seen) < before:
        yield f"{len(seen)} chunks after {before}"
    for chunk in seen:
        if chunk.images != CHUNK_IMAGES or chunk.objects != chunk.promised:
            yield str(chunk)


def _duckdb(root: Path) -> list[Seen]:
    import duckdb

    images = duckdb.sql(
        f"SELECT chunk_id, count(*), coalesce(sum(n_objects), 0) FROM '{root}/images/*.parquet' "
        "GROUP BY chunk_id"
    ).fetchall()
    objects = duckdb.sql(
        f"SELECT chunk_id, count(*) FROM '{root}/objects/*.parquet' GROUP BY chunk_id"
    ).fetchall()
    return _join(images, dict(objects))


def _polars(root: Path) -> list[Seen]:
    import polars as pl

    images = pl.scan_parquet(f"{root}/images/*.parquet").group_by("chunk_id")
    rows = images.agg(pl.len(), pl.col("n_objects").sum()).collect().rows()
    objects = pl.scan_parquet(f"{root}/objects/*.parquet").group_by("chunk_id").agg(pl.len())
    return _join(rows, dict(objects.collect().rows()))


def _pandas(root: Path) -> list[Seen]:
    import pandas as pd

    images = pd.read_parquet(root / "images", columns=["chunk_id", "n_objects"])
    rows = images.groupby("chunk_id")["n_objects"].agg(["size", "sum"]).itertuples(name=None)
    objects = pd.read_parquet(root / "objects", columns=["chunk_id"])
    return _join(list(rows), objects["chunk_id"].value_counts().to_dict())


def _join(images: list[Any], objects: Mapping[str, int]) -> list[Seen]:
    """The objects were read after the images: those of every chunk that was seen must be there."""
    return [Seen(chunk, n, int(sum_), objects.get(chunk, 0)) for chunk, n, sum_ in images]


def _query(root: Path) -> list[Seen]:
    """One snapshot: both tables hold exactly the same chunks."""
    rows = query(
        open_store(root),
        """SELECT chunk_id, coalesce(i.n, 0), coalesce(i.promised, 0), coalesce(o.n, 0) FROM
           (SELECT chunk_id, count(*) AS n, sum(n_objects) AS promised FROM images GROUP BY ALL) i
           FULL JOIN (SELECT chunk_id, count(*) AS n FROM objects GROUP BY ALL) o USING (chunk_id)
        """,
        threads=1,
    )
    return [Seen(*map(_plain, row.values())) for row in rows.to_pylist()]


def _plain(value: Any) -> Any:
    return value if isinstance(value, str) else int(value)


LOOKS: dict[str, Callable[[Path], list[Seen]]] = {
    "duckdb": _duckdb,
    "polars": _polars,
    "pandas": _pandas,
    "query": _query,
}
