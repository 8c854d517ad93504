"""Parquet parts: rows of the documented schema to bytes and back."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from segpipe.errors import InvariantError
from segpipe.geometry import Box
from segpipe.schema import LATER_COLUMNS, TABLES, arrow_schema

ROW_GROUP = 1 << 17
"""Rows that are compressed together: what one thread of a reader takes, or leaves out unread."""


def encode_part(table: str, columns: Mapping[str, Sequence[Any]]) -> bytes:
    """A Parquet part of `images` or `objects` from exactly the columns of its schema.

    Raises:
        InvariantError: a column is missing, unknown, or does not fit its type.
    """
    return encode_table(table, as_rows(table, columns))


def as_rows(table: str, columns: Mapping[str, Sequence[Any]]) -> pa.Table:
    """The same as rows in memory.

    Raises:
        InvariantError: as `encode_part`.
    """
    schema = arrow_schema(table)
    if set(columns) != set(schema.names):
        raise InvariantError(f"{table}: columns differ: {set(columns) ^ set(schema.names)}")
    try:
        return pa.table({name: columns[name] for name in schema.names}, schema=schema)
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise InvariantError(f"{table}: a value does not fit its column: {error}") from error


def completed(table: str, rows: pa.Table) -> pa.Table:
    """The rows of a part, with nulls in those columns that its format did not know yet."""
    for place, field in enumerate(arrow_schema(table)):
        if field.name in LATER_COLUMNS[table] and field.name not in rows.column_names:
            rows = rows.add_column(place, field, pa.nulls(len(rows), field.type))
    return rows


def encode_table(table: str, rows: pa.Table) -> bytes:
    """Rows of the schema of `images` or `objects` as a Parquet file."""
    sink = io.BytesIO()
    floats = [c.name for c in TABLES[table] if pa.types.is_floating(c.type)]
    others = [c.name for c in TABLES[table] if c.name not in floats]
    pq.write_table(
        rows,
        sink,
        compression="zstd",
        compression_level=1,
        use_dictionary=others,
        use_byte_stream_split=floats,
        row_group_size=ROW_GROUP,
    )
    return sink.getvalue()


def box_meets(part: Box) -> pc.Expression:
    """Of a row of `objects`: its box has a pixel in a part of its image."""
    below = (pc.field("bbox_y0") < part.y1) & (pc.field("bbox_x0") < part.x1)
    return below & (pc.field("bbox_y1") > part.y0) & (pc.field("bbox_x1") > part.x0)
