"""The tables of a query: views over the Parquet parts of one snapshot, and the run records."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

import duckdb
import pyarrow as pa
import pyarrow.dataset as ds

from segpipe.errors import SpecError, StoreError
from segpipe.schema import TABLES, TRUTH_MODELS, arrow_schema
from segpipe.store.damage import Parts

VIEWS = ("images", "objects", "runs", "missing_images", "latest_images", "latest_objects")

_LATEST_IMAGES = f"""
CREATE VIEW latest_images AS SELECT images.*, since AS missing_since
FROM images LEFT JOIN missing_images USING (image_id)
WHERE regexp_full_match(model, '{TRUTH_MODELS}') IS NOT TRUE
QUALIFY row_number() OVER (PARTITION BY images.image_id ORDER BY run_id DESC, chunk_id DESC) = 1
"""  # noqa: S608 - ours
_LATEST_OBJECTS = """
CREATE VIEW latest_objects AS SELECT objects.* FROM objects
SEMI JOIN latest_images USING (image_id, run_id, chunk_id)
"""

# Without a time zone, so that results do not depend on that of the session.
_UTC = pa.timestamp("ms")

# Column of `runs`, its type, its unit, what it means, and where it is in a record.
_RUNS: tuple[tuple[str, pa.DataType, str, str, tuple[str, ...]], ...] = (
    ("run_id", pa.string(), "", "sorts by start time", ("run_id",)),
    ("status", pa.string(), "", "completed, failed, interrupted, running, died, forgotten",
     ("status",)),
    ("started", _UTC, "UTC", "", ("started",)),
    ("ended", _UTC, "UTC", "null while it is going on", ("ended",)),
    ("model", pa.string(), "", "name of the model", ("segment_spec", "model", "name")),
    ("spec_id", pa.string(), "", "sha256 of all that can change a result", ("spec_id",)),
    ("images", pa.int64(), "", "in the collection", ("summary", "images")),
    ("ok", pa.int64(), "", "images segmented by this run", ("summary", "ok")),
    ("failed", pa.int64(), "", "images that failed in this run", ("summary", "failed")),
    ("skipped", pa.int64(), "", "images done by earlier runs", ("summary", "skipped")),
    ("objects", pa.int64(), "", "found by this run", ("summary", "objects")),
    ("seconds", pa.float64(), "s", "from its start to its end", ("summary", "seconds")),
    ("images_per_second", pa.float64(), "1/s", "", ("summary", "images_per_second")),
    ("source", pa.string(), "", "the collection, as it was asked for", ("run_spec", "source")),
    ("device", pa.string(), "", "the processor's own name", ("device", "name")),
    ("precision", pa.string(), "", "fp32, bf16 or int8", ("device", "precision")),
    ("weights_sha256", pa.string(), "", "null where the model has none",
     ("segment_spec", "model", "weights_sha256")),
    ("segpipe_version", pa.string(), "", "", ("environment", "segpipe")),
    ("error", pa.string(), "", "why it failed; else null", ("error",)),
)  # fmt: skip


class Tables(Parts, Protocol):
    """What a query needs of a snapshot: the parts of one consistent set of commits."""

    def parquet_files(self, table: str) -> list[Path] | None: ...
    def dataset(self, table: str) -> ds.Dataset: ...
    def records(self) -> list[dict[str, Any]]: ...
    def missing_images(self, records: Iterable[dict[str, Any]]) -> pa.Table: ...


def describe(view: str | None = None) -> pa.Table:
    """A row per column of every view, or of one: view, column, type, unit, meaning.

    Raises:
        SpecError: there is no such view.
    """
    if view not in (None, *VIEWS):
        raise SpecError(f"no view {view!r}; there are: {', '.join(VIEWS)}")
    rows = [("runs", name, str(kind), unit, meaning) for name, kind, unit, meaning, _ in _RUNS]
    missing = (
        ("image_id", "derived from the uri; the same in every run"),
        ("uri", "where the image was read, percent-encoded"),
        ("path", "path relative to the collection"),
        ("since", "run that noticed first that the image was gone"),
    )
    rows += [("missing_images", name, "string", "", meaning) for name, meaning in missing]
    for name in VIEWS:
        columns = TABLES.get(name.removeprefix("latest_"), ())
        rows += [(name, c.name, _type(c.type), c.unit, c.meaning) for c in columns]
        if name == "latest_images":
            rows.append((name, "missing_since", "string", "", f"{missing[-1][1]}; or null"))
    rows = sorted(
        (row for row in rows if view in (None, row[0])), key=lambda row: VIEWS.index(row[0])
    )
    names = ("view", "column", "type", "unit", "meaning")
    return pa.table(dict(zip(names, zip(*rows, strict=True), strict=True)))


def _type(kind: pa.DataType) -> str:
    return str(kind).replace("item: ", "")


def create_views(connection: duckdb.DuckDBPyConnection, tables: Tables) -> None:
    """Create all views, allow their files, and lock every other door of this connection."""
    allowed: list[str] = []
    for name in TABLES:
        paths = tables.parquet_files(name)
        if paths is None:  # DuckDB cannot reach them; Arrow reads for it, what a query asks for
            connection.register(name, tables.dataset(name))
        else:
            allowed += view_files(connection, name, paths)
    records = tables.records()
    _copy(connection, "runs", runs_table(records))
    _copy(connection, "missing_images", tables.missing_images(records))
    connection.execute(_LATEST_IMAGES)
    connection.execute(_LATEST_OBJECTS)
    connection.execute(f"SET allowed_paths = {_list(allowed)}")
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")


def runs_table(records: Iterable[Mapping[str, Any]]) -> pa.Table:
    """One row per run record; null where a record does not say (a run that is still going on).

    `started` and `ended` are UTC.

    Raises:
        StoreError: a record holds something of another type.
    """
    rows = [{name: _look_up(record, path) for name, *_, path in _RUNS} for record in records]
    schema = pa.schema([(name, kind) for name, kind, *_ in _RUNS])
    as_read, with_zone = (
        pa.schema([field.with_type(kind) if field.type == _UTC else field for field in schema])
        for kind in (pa.string(), pa.timestamp("ms", "UTC"))
    )
    try:
        return pa.Table.from_pylist(rows, as_read).cast(with_zone).cast(schema)
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise StoreError(f"a record under runs/ is damaged: {error}") from error


def _look_up(record: Mapping[str, Any], path: tuple[str, ...]) -> Any:
    value: Any = record
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def view_files(
    connection: duckdb.DuckDBPyConnection, name: str, paths: Iterable[Path]
) -> list[str]:
    """Make the view `name` over Parquet files of this machine, which hold that table.

    Returns:
        What the view has to be allowed to open.

    Raises:
        StoreError: they cannot be read.
    """
    files = [str(path) for path in paths]
    patterns = [_as_pattern(file) for file in files]
    if patterns:
        source = f"read_parquet({_list(patterns)}, hive_partitioning = false)"
        try:
            connection.execute(f"CREATE VIEW {name} AS SELECT * FROM {source}")  # noqa: S608 - quoted
        except duckdb.Error as error:
            raise StoreError(f"the table {name} cannot be read: {error}") from error
    else:
        _copy(connection, name, arrow_schema(name).empty_table())
    return [*files, *patterns]


def _copy(connection: duckdb.DuckDBPyConnection, name: str, table: pa.Table) -> None:
    connection.register("copied", table)
    connection.execute(f"CREATE TABLE {name} AS SELECT * FROM copied")  # noqa: S608 - ours
    connection.unregister("copied")


def _as_pattern(path: str) -> str:
    """The pattern that matches this path alone: DuckDB takes every path for a pattern."""
    return re.sub(r"[*?\[]", r"[\g<0>]", path)


def _list(texts: Iterable[str]) -> str:
    return "[" + ", ".join("'" + text.replace("'", "''") + "'" for text in texts) + "]"
