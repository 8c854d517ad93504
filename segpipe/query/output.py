"""A result for a person (table), a spreadsheet (csv), a program (json) or a tool (parquet)."""

from __future__ import annotations

import csv
import io
import json
import math
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any, Literal, TextIO, get_args

import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table
from rich.text import Text

from segpipe.errors import SpecError

Format = Literal["table", "csv", "json", "parquet"]

MAX_TABLE_ROWS = 100
_MAX_CELL = 40
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n")


def format_table(table: pa.Table, format: Format, stream: TextIO) -> None:  # noqa: A002
    """Write a query's result.

    `table` shows the first rows and the columns that fit, and says what it left out. `csv` has a
    header, LF line ends and an empty cell for null; a text that a spreadsheet would run as a
    formula gets an apostrophe before it (OWASP, CSV Injection). `json` is one array with an
    object per row and line; what JSON lacks becomes null (NaN, infinity) or text (times, bytes
    as hex). `parquet` goes to the stream's underlying bytes. Only `parquet` keeps every type.

    Raises:
        SpecError: no such format, or Parquet to a terminal.
    """
    match format:
        case "table":
            _write_table(table, stream)
        case "csv":
            _write_csv(table, stream)
        case "json":
            _write_json(table, stream)
        case "parquet":
            _write_parquet(table, stream)
        case _:
            raise SpecError(f"format {format!r}; allowed: {', '.join(get_args(Format))}")


def _write_table(table: pa.Table, stream: TextIO) -> None:
    console = Console(file=stream, highlight=False)
    rows = [[_cell(value) for value in row] for row in _rows(table.slice(0, MAX_TABLE_ROWS))]
    names = [_cell(name) for name in table.column_names]
    shown = _columns_that_fit(names, rows, console.width)
    grid = Table()
    for name, kind in zip(names[:shown], table.schema.types, strict=False):
        grid.add_column(Text(name), justify="right" if _is_number(kind) else "left", no_wrap=True)
    for row in rows:
        grid.add_row(*(Text(cell) for cell in row[:shown]))
    console.print(grid)
    console.print(Text(_count(table, len(rows), shown)))


def _count(table: pa.Table, rows: int, columns: int) -> str:
    said = f"{table.num_rows} row{'' if table.num_rows == 1 else 's'}"
    if rows < table.num_rows:
        said += f", the first {rows} shown"
    if columns < table.num_columns:
        said += f", {columns} of {table.num_columns} columns shown (name those you need)"
    return said


def _columns_that_fit(names: list[str], rows: list[list[str]], width: int) -> int:
    """How many leading columns fit beside each other, at least one."""
    used = 1
    for index, name in enumerate(names):
        used += max(len(name), *(len(row[index]) for row in rows), 0) + 3
        if used > width:
            return max(1, index)
    return len(names)


def _cell(value: Any) -> str:
    """One short line; characters that could steer a terminal are spelled out."""
    text = "" if value is None else value if isinstance(value, str) else _plain_text(value)
    text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return text if len(text) <= _MAX_CELL else text[: _MAX_CELL - 1] + "…"


def _write_csv(table: pa.Table, stream: TextIO) -> None:
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(_harmless(name) for name in table.column_names)
    for row in _rows(table):
        writer.writerow("" if value is None else _csv_cell(value) for value in row)


def _csv_cell(value: Any) -> str:
    return _harmless(value) if isinstance(value, str) else _plain_text(value)


def _harmless(text: str) -> str:
    return f"'{text}" if text.startswith(_FORMULA_STARTS) else text


def _write_json(table: pa.Table, stream: TextIO) -> None:
    names = table.column_names
    separator = "[\n"
    for row in _rows(table):
        record = {name: _json_value(value) for name, value in zip(names, row, strict=True)}
        stream.write(separator + json.dumps(record, allow_nan=False))
        separator = ",\n"
    stream.write("\n]\n" if table.num_rows else "[]\n")


def _write_parquet(table: pa.Table, stream: TextIO) -> None:
    if stream.isatty():
        raise SpecError("Parquet is binary: redirect it to a file (> result.parquet)")
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    stream.flush()
    stream.buffer.write(buffer.getbuffer())
    stream.buffer.flush()


def _rows(table: pa.Table) -> Any:
    """Rows as tuples of Python values; names may repeat, so never as dicts."""
    for batch in table.to_batches(max_chunksize=4096):
        yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)


def _plain_text(value: Any) -> str:
    plain = _json_value(value)
    return plain if isinstance(plain, str) else json.dumps(plain, ensure_ascii=False)


def _json_value(value: Any) -> Any:
    """`value` in the types of JSON; integers stay integers, whatever their width."""
    match value:
        case float():
            return value if math.isfinite(value) else None
        case Decimal():
            return int(value) if value == value.to_integral_value() else float(value)
        case datetime() | date() | time():
            return value.isoformat()
        case bytes():
            return value.hex()
        case list() | tuple():
            return [_json_value(item) for item in value]
        case dict():
            return {str(key): _json_value(item) for key, item in value.items()}
        case None | bool() | int() | str():
            return value
        case _:  # an interval, a UUID
            return str(value)


def _is_number(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
    )
