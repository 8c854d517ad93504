"""Running a stranger's SELECT: within a memory, a time and a result size, and without reach."""

from __future__ import annotations

import contextlib
import re
import tempfile
import threading
from collections.abc import Mapping
from concurrent.futures import Future, wait

import duckdb
import pyarrow as pa

from segpipe.errors import SpecError, StoreError
from segpipe.query.statement import check_statement
from segpipe.query.views import VIEWS, Tables, create_views
from segpipe.schema import TABLES
from segpipe.store.damage import raise_named

MAX_RESULT_BYTES = 1 << 30
MAX_SPILL = "10GB"
_BATCH_ROWS = 65_536
_INTERRUPT_EVERY_SECONDS = 0.1
_PATIENCE_SECONDS = 5.0


def query(
    snapshot: Tables,
    sql: str,
    *,
    memory_limit: str = "2GB",
    seconds: float = 60.0,
    threads: int | None = None,
    parameters: Mapping[str, object] | None = None,
) -> pa.Table:
    """Answer one read-only SELECT over the views of a snapshot; see the package for their names.

    Args:
        memory_limit: for DuckDB's tables and operators, e.g. `500MB`; beyond it, work spills to
            a temporary folder, up to `MAX_SPILL`. DuckDB does not count the text that a function
            such as `repeat` makes: `address_space` has a ceiling for that.
        seconds: after which the query is stopped.
        threads: for DuckDB; None for one per core.
        parameters: values of `$name` in the query: numbers, texts, truth values, None.

    Raises:
        SpecError: not one read-only SELECT, an error in it, or a limit reached, such as
            `MAX_RESULT_BYTES`.
        StoreError: a table of the store cannot be read.
    """
    result: Future[pa.Table] = Future()
    try:
        connection = connect(memory_limit, threads)
    except duckdb.Error as error:
        raise SpecError(f"memory_limit {memory_limit!r}, threads {threads}: {error}") from error

    def work() -> None:
        try:
            with (
                tempfile.TemporaryDirectory(
                    prefix="segpipe-query-", ignore_cleanup_errors=True
                ) as scratch,
                connection,
            ):
                connection.execute("SET temp_directory = ?", [scratch])
                create_views(connection, snapshot)
                answer = _answer(connection, snapshot, sql, parameters or {})
        except BaseException as error:
            result.set_exception(error)
        else:
            result.set_result(answer)

    # A daemon, so that a single long call inside DuckDB, which looks for interrupts only between
    # batches, cannot keep the caller or its process.
    threading.Thread(target=work, name="segpipe-query", daemon=True).start()
    try:
        return result.result(timeout=seconds)
    except TimeoutError:
        raise SpecError(
            f"the query took longer than {seconds:g} seconds and was stopped; ask for less, or "
            "allow more time"
        ) from None
    finally:
        _stop(connection, result)


def connect(memory_limit: str = "2GB", threads: int | None = None) -> duckdb.DuckDBPyConnection:
    """A database in memory that reaches no variable of Python and loads no extension."""
    config: dict[str, str | bool | int | float | list[str]] = {
        "memory_limit": memory_limit,
        "max_temp_directory_size": MAX_SPILL,
        "python_enable_replacements": False,  # a table name never reaches a Python variable
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
    }
    if threads is not None:
        config["threads"] = threads
    return duckdb.connect(":memory:", config=config)


def _answer(
    connection: duckdb.DuckDBPyConnection,
    snapshot: Tables,
    sql: str,
    parameters: Mapping[str, object],
) -> pa.Table:
    try:
        check_statement(connection, sql)
        # A relation is read batch by batch, so that a huge result is refused before it is made.
        reader = connection.sql(sql, params=dict(parameters)).to_arrow_reader(_BATCH_ROWS)
        batches, size = [], 0
        for batch in reader:
            batches.append(batch)
            size += batch.nbytes
            if size > MAX_RESULT_BYTES:
                raise SpecError(
                    f"the result is larger than {MAX_RESULT_BYTES:,} bytes; aggregate, name the "
                    "columns you need, or add a LIMIT"
                )
        table = pa.Table.from_batches(batches, reader.schema)
        return table.rename_columns(_distinct(table.column_names))
    except duckdb.Error as error:
        for table in TABLES:
            if f"registered as '{table}' failed" in str(error):  # by Arrow, which names no file
                raise_named(snapshot, table, error)
        if "Failed to read file" in str(error):  # by DuckDB, which names it
            raise StoreError(f"{error}; `segpipe fsck {snapshot.files.address}`") from error
        raise SpecError(f"{error}{_valid_names(connection, sql, error)}") from error


def _distinct(names: list[str]) -> list[str]:
    """Column names as SQL gives them, a repeated one with a number behind it."""
    taken = set(names)
    seen: set[str] = set()
    result = []
    for name in names:
        new, number = name, 0
        while new in seen or (number and new in taken):
            number += 1
            new = f"{name}_{number}"
        seen.add(new)
        result.append(new)
    return result


def _valid_names(connection: duckdb.DuckDBPyConnection, sql: str, error: duckdb.Error) -> str:
    """What could have been meant, for an unknown table or column; else nothing."""
    if isinstance(error, duckdb.CatalogException) and "Table with name" in str(error):
        return f"\nTables: {', '.join(VIEWS)}"
    if isinstance(error, duckdb.BinderException) and "column" in str(error).lower():
        used = [view for view in VIEWS if re.search(rf"\b{view}\b", sql)]
        names = {view: ", ".join(connection.table(view).columns) for view in used}
        return "".join(f"\nColumns of {view}: {columns}" for view, columns in names.items())
    return ""


def _stop(connection: duckdb.DuckDBPyConnection, result: Future[pa.Table]) -> None:
    """Interrupt until the query has ended; leave one that does not listen to its own thread."""
    for _ in range(round(_PATIENCE_SECONDS / _INTERRUPT_EVERY_SECONDS)):
        if result.done():
            return
        with contextlib.suppress(duckdb.Error):  # it has just ended and closed
            connection.interrupt()
        wait([result], timeout=_INTERRUPT_EVERY_SECONDS)
