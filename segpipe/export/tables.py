"""The two tables as one Parquet file each, for programs that want no more than these."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import BinaryIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from segpipe.export.files import ExportSummary, write_below
from segpipe.export.selection import KEY, Selection
from segpipe.schema import TABLES, arrow_schema
from segpipe.store.damage import named_damage
from segpipe.store.snapshot import Snapshot

_BATCH = 65_536


def export_parquet(snapshot: Snapshot, out: Path) -> ExportSummary:
    """Write `OUT/images.parquet` and `OUT/objects.parquet`: the newest result of each image.

    Columns are those of the store, with unit and meaning as field metadata; failed images are in
    `images`, with their reasons.

    Raises:
        SpecError: a file cannot be written.
    """
    images = [{name: row[name] for name in (*KEY, "status")} for row in snapshot.image_rows()]
    newest = pa.array([_text(row) for row in images], pa.string())
    counts: dict[str, int] = {}
    for table in TABLES:
        write = partial(_write, snapshot, table, newest, counts)
        write_below(out, PurePosixPath(f"{table}.parquet"), write)
    failed = sum(row["status"] != "ok" for row in images)
    return ExportSummary(str(out), len(images) - failed, counts["objects"], failed)


def _text(row: dict[str, str]) -> str:
    return "|".join(row[name] for name in KEY)


def _write(
    snapshot: Snapshot, table: str, newest: pa.Array, counts: dict[str, int], file: BinaryIO
) -> None:
    counts[table] = 0
    with (
        pq.ParquetWriter(file, arrow_schema(table), compression="zstd") as writer,
        named_damage(snapshot, table),
    ):
        for batch in _batches(snapshot, table, newest):
            writer.write_batch(batch)
            counts[table] += len(batch)


def _batches(snapshot: Snapshot, table: str, newest: pa.Array) -> Iterator[pa.RecordBatch]:
    batches = snapshot.dataset(table).to_batches(batch_size=_BATCH, fragment_readahead=1)
    for batch in batches:
        keys = pc.binary_join_element_wise(*(batch[name] for name in KEY), "|")
        chosen = pc.is_in(keys, value_set=newest)
        if table == "objects" and isinstance(snapshot, Selection):
            chosen = pc.and_(chosen, snapshot.has(batch))
        yield batch.filter(chosen)
