"""What a run came to, chunk by chunk: beside its record, which every query reads and is short."""

from __future__ import annotations

import io
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from segpipe.provenance.tally import ChunkResult
from segpipe.store.files import Files
from segpipe.store.layout import run_file

_SCHEMA = pa.schema(
    [
        ("chunk_id", pa.string()),
        ("images", pa.int64()),
        ("ok", pa.int64()),
        ("objects", pa.int64()),
        ("seconds", pa.map_(pa.string(), pa.float64())),
    ]
)


def write_chunk_results(files: Files, run_id: str, chunks: Sequence[ChunkResult]) -> None:
    """Write them down, in the order in which the chunks were done."""
    columns = [[getattr(one, name) for one in chunks] for name in _SCHEMA.names[:-1]]
    columns.append([list(one.seconds.items()) for one in chunks])
    sink = io.BytesIO()
    pq.write_table(pa.table(columns, schema=_SCHEMA), sink, compression="zstd")
    files.replace(_path(run_id), sink.getvalue())


def read_chunk_results(files: Files, run_id: str) -> tuple[ChunkResult, ...]:
    """Read them back; none of a run that is still at work, or died."""
    if not files.exists(_path(run_id)):
        return ()
    table = pq.read_table(_path(run_id), filesystem=files.arrow())
    rows = zip(*(column.to_pylist() for column in table.columns), strict=True)
    return tuple(
        ChunkResult(chunk_id, images, ok, objects, dict(seconds))
        for chunk_id, images, ok, objects, seconds in rows
    )


def _path(run_id: str) -> str:
    return run_file(run_id, "chunks.parquet")
