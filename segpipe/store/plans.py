"""The plan of a run: every image and the chunk it belongs to, written once before work starts."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from itertools import groupby
from operator import itemgetter
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from segpipe.errors import Reason
from segpipe.records import Chunk, ImageRef
from segpipe.store.files import Files
from segpipe.store.layout import run_file

_SCHEMA = pa.schema(
    [
        ("chunk_id", pa.string()),
        ("generation", pa.int32()),
        ("uri", pa.string()),
        ("path", pa.string()),
        ("size_bytes", pa.int64()),
        ("mtime_ns", pa.int64()),
        ("etag", pa.string()),
        ("refused", pa.string()),
        ("refused_detail", pa.string()),
    ]
)


def write_plan(files: Files, run_id: str, chunks: Iterable[Chunk]) -> str:
    """Write chunks as they come; memory holds one of them.

    Returns:
        The digest of the plan: sha256 over its chunk ids, in order.
    """
    digest = hashlib.sha256()
    with files.stream(_path(run_id)) as sink, pq.ParquetWriter(sink, _SCHEMA) as writer:
        for chunk in chunks:
            chunk_id = chunk.chunk_id
            digest.update(chunk_id.encode())
            rows = [
                {
                    "chunk_id": chunk_id,
                    "generation": chunk.generation,
                    "uri": ref.uri,
                    "path": ref.path,
                    "size_bytes": ref.size_bytes,
                    "mtime_ns": ref.mtime_ns,
                    "etag": ref.etag,
                    "refused": ref.refused,
                    "refused_detail": ref.refused_detail,
                }
                for ref in chunk.images
            ]
            writer.write_table(pa.Table.from_pylist(rows, schema=_SCHEMA))
    return digest.hexdigest()


def read_plan(files: Files, run_id: str, spec_id: str) -> Iterator[Chunk]:
    """The chunks of a plan, one at a time."""
    with pq.ParquetFile(_path(run_id), filesystem=files.arrow()) as file:
        rows = (row for batch in file.iter_batches(1024) for row in batch.to_pylist())
        keys = itemgetter("chunk_id", "generation")
        for (_, generation), members in groupby(rows, key=keys):
            yield Chunk(spec_id, tuple(_image(row) for row in members), generation)


def _image(row: dict[str, Any]) -> ImageRef:
    about = {name: row[name] for name in ("uri", "path", "size_bytes", "mtime_ns", "etag")}
    refused = Reason(row["refused"]) if row["refused"] else None
    return ImageRef(**about, refused=refused, refused_detail=row["refused_detail"])


def _path(run_id: str) -> str:
    return run_file(run_id, "plan.parquet")
