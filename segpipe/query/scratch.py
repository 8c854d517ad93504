"""A scratch database over the images of a store, for joins that may be larger than memory."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import duckdb
import pyarrow as pa

from segpipe.errors import StoreError
from segpipe.query.views import view_files
from segpipe.store import Snapshot
from segpipe.store.damage import raise_named

MEMORY = "512MB"
"""For the scratch database."""


@contextmanager
def scratch(snapshot: Snapshot, columns: Sequence[str]) -> Iterator[duckdb.DuckDBPyConnection]:
    """A database on the local disk, gone with the block, in which `images` are those of a store.

    It has `MEMORY` and spills the rest.

    Args:
        columns: that `images` has at least.

    Raises:
        StoreError: they cannot be read, or the disk is full.
    """
    with (
        tempfile.TemporaryDirectory(prefix="segpipe-scratch-") as folder,
        duckdb.connect(f"{folder}/scratch.duckdb") as connection,
    ):
        try:
            connection.execute(f"SET memory_limit = '{MEMORY}'")
            connection.execute("SET temp_directory = $1", [f"{folder}/spilled"])
            _open_images(connection, snapshot, list(columns))
            yield connection
        except duckdb.Error as error:
            if "registered as 'filling' failed" in str(error):  # by Arrow, which names no file
                raise_named(snapshot, "images", error)
            raise StoreError(f"{snapshot.files.address}: its images: {error}") from error


def fill(connection: duckdb.DuckDBPyConnection, table: str, reader: pa.RecordBatchReader) -> None:
    """A new table with all rows of `reader`; its name is ours."""
    connection.register("filling", reader)
    connection.execute(f"CREATE TABLE {table} AS SELECT * FROM filling")  # noqa: S608 - ours
    connection.unregister("filling")


def _open_images(
    connection: duckdb.DuckDBPyConnection, snapshot: Snapshot, columns: list[str]
) -> None:
    paths = snapshot.parquet_files("images")
    if paths is not None:
        view_files(connection, "images", paths)
        return
    # Read ahead as little as Arrow can: by default it is 16 batches of each of 4 files.
    scanner = snapshot.dataset("images").scanner(
        columns=columns, batch_readahead=1, fragment_readahead=4
    )
    fill(connection, "images", scanner.to_reader())
