"""The plan of a run: every image and the chunk it belongs to, written once before work starts."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from itertools import groupby
from operator import itemgetter

import pyarrow as pa
import pyarrow.parquet as pq

from segpipe.errors import Reason
from segpipe.records import Chunk, ImageRef
from segpipe.store.files import Files
from segpipe.store.layout import run_file

GROUP_IMAGES = 16_384

_SCHEMA = pa.schema(
    [
        ("chunk_id", pa.string()),
        ("generation", pa.int32()),
        ("uri", pa.string()),
        ("path", pa.string()),
        ("size_bytes", pa.int64()),
        ("mtime_ns", pa.int64()),
        ("refused", pa.string()),
        ("refused_detail", pa.string()),
        ("etag", pa.string()),
    ]
)


def write_plan(files: Files, run_id: str, chunks: Iterable[Chunk]) -> str:
    """Write chunks as they come; memory holds `GROUP_IMAGES` images of them.

    Returns:
        The digest of the plan: sha256 over its chunk ids, in order.
    """
    digest = hashlib.sha256()
    with files.stream(_path(run_id)) as sink, pq.ParquetWriter(sink, _SCHEMA) as writer:
        for group in _groups(chunks):
            for chunk_id, _ in group:
                digest.update(chunk_id.encode())
            writer.write_table(_table(group))
    return digest.hexdigest()


def read_plan(files: Files, run_id: str, spec_id: str) -> Iterator[Chunk]:
    """The chunks of a plan, one at a time."""
    with pq.ParquetFile(_path(run_id), filesystem=files.arrow()) as file:
        rows = (
            row
            for batch in file.iter_batches(1024, columns=_SCHEMA.names)
            for row in zip(*(column.to_pylist() for column in batch.columns), strict=True)
        )
        for (_, generation), members in groupby(rows, key=itemgetter(0, 1)):
            yield Chunk(spec_id, tuple(_image(*row[2:]) for row in members), generation)


def _groups(chunks: Iterable[Chunk]) -> Iterator[list[tuple[str, Chunk]]]:
    """Chunks with their ids, about `GROUP_IMAGES` images together: a row group each."""
    group: list[tuple[str, Chunk]] = []
    images = 0
    for chunk in chunks:
        group.append((chunk.chunk_id, chunk))
        images += len(chunk.images)
        if images >= GROUP_IMAGES:
            yield group
            group, images = [], 0
    if group:
        yield group


def _table(group: list[tuple[str, Chunk]]) -> pa.Table:
    rows = [(chunk_id, chunk.generation, ref) for chunk_id, chunk in group for ref in chunk.images]
    columns = [[row[0] for row in rows], [row[1] for row in rows]]
    columns += [[getattr(row[2], name) for row in rows] for name in _SCHEMA.names[2:]]
    return pa.table(columns, schema=_SCHEMA)


def _image(
    uri: str,
    path: str,
    size_bytes: int,
    mtime_ns: int,
    refused: str | None,
    refused_detail: str,
    etag: str | None = None,  # plans of older versions know none
) -> ImageRef:
    reason = Reason(refused) if refused else None
    return ImageRef(uri, path, size_bytes, mtime_ns, reason, refused_detail, etag)


def _path(run_id: str) -> str:
    return run_file(run_id, "plan.parquet")
