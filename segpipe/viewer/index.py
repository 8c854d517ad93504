"""What filters need of the two tables, in a database of its own on the local disk.

A Parquet part per chunk is right for a store that is written, and too slow to look at: here are the
columns that people filter by, in one file, objects beside a number instead of four long ids. It is
filled once, and then takes up the chunks that were published since; readers see the chunks of one
snapshot, before or after, never between. It is gone with the process.
"""

from __future__ import annotations

import tempfile
import threading
from typing import Any

import duckdb

from segpipe.errors import SpecError, StoreError
from segpipe.schema import IMAGES, OBJECTS, TRUTH_MODELS
from segpipe.store import Snapshot

MEMORY = "1GB"
"""For the database; the rest is on disk."""

SECONDS = 20.0
"""After which a question is stopped."""

# Not asked for, or long; `orientation` of images is EXIF's, and that of objects the one meant.
_NOT_OF_IMAGES = {"spec_id", "orientation", "mask_array", "semantic_array", "mask_index", "etag"}
_NOT_OF_OBJECTS = {"run_id", "spec_id", "chunk_id", "image_id", "rle", "mask_array", "mask_index"}

IMAGE_COLUMNS = tuple(c.name for c in IMAGES if c.name not in _NOT_OF_IMAGES)
OBJECT_COLUMNS = tuple(c.name for c in OBJECTS if c.name not in _NOT_OF_OBJECTS)

_FACTS = f"""
CREATE OR REPLACE TABLE facts AS
SELECT result,
  regexp_full_match(model, '{TRUTH_MODELS}') IS NOT TRUE AND row_number() OVER (
    PARTITION BY image_id, regexp_full_match(model, '{TRUTH_MODELS}') IS TRUE
    ORDER BY run_id DESC, chunk_id DESC
  ) = 1 AS newest,
  row_number() OVER (PARTITION BY image_id, model ORDER BY run_id DESC, chunk_id DESC) = 1
    AS newest_of_model,
  row_number() OVER (ORDER BY path, run_id, chunk_id)::INTEGER AS place, lowest, largest
FROM image_rows LEFT JOIN (
  SELECT result, min(score) AS lowest, max(area) AS largest FROM object_rows GROUP BY result
) USING (result)
"""  # noqa: S608 - ours


class Index:
    """The database; safe to use from several threads.

    Tables: `image_rows` (`IMAGE_COLUMNS`) and `object_rows` (`OBJECT_COLUMNS`), joined by `result`,
    a number for each row of `images`; `facts` about it: whether it is the newest of its image,
    truths left out (of its model), its `place` by path, the lowest score and the largest area of
    its objects. Views `images` and `objects` have the columns under their own names, for
    conditions of people.

    Attributes:
        version: grows whenever the content changes.
    """

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(
            prefix="segpipe-view-", ignore_cleanup_errors=True
        )
        self._connection = duckdb.connect(
            f"{self._folder.name}/index.duckdb",
            config={
                "memory_limit": MEMORY,
                "temp_directory": f"{self._folder.name}/spilled",
                "max_temp_directory_size": "20GB",
                "python_enable_replacements": False,
                "autoinstall_known_extensions": False,
                "autoload_known_extensions": False,
            },
        )
        self._chunks: frozenset[str] = frozenset()
        self._writing = threading.Lock()
        self.version = 0

    def refresh(self, snapshot: Snapshot) -> None:
        """Hold what a snapshot holds: add chunks that are new, drop those that are gone.

        Raises:
            StoreError: the tables of the store cannot be read, or the disk is full.
        """
        with self._writing:
            there = frozenset(snapshot.chunk_ids)
            new, gone = there - self._chunks, self._chunks - there
            if self.version and not new and not gone:
                return
            part = snapshot.of_chunks(new) if self.version else snapshot
            cursor = self._connection.cursor()
            try:
                cursor.begin()
                self._write(cursor, part, gone)
                cursor.commit()
            except duckdb.Error as error:
                raise StoreError(f"{snapshot.files.address}: its tables: {error}") from error
            finally:
                cursor.close()
            if not self.version:
                # From here on, SQL of a person reaches nothing but these tables.
                self._connection.execute("SET enable_external_access = false")
                self._connection.execute("SET lock_configuration = true")
            self._chunks = there
            self.version += 1

    def _write(
        self, cursor: duckdb.DuckDBPyConnection, part: Snapshot, gone: frozenset[str]
    ) -> None:
        images = part.dataset("images").scanner(columns=list(IMAGE_COLUMNS))
        cursor.register("new_images", images.to_reader())
        first = 0
        if not self.version:
            cursor.execute(
                "CREATE TABLE image_rows AS "
                "SELECT (row_number() OVER ())::INTEGER AS result, * FROM new_images"
            )
        else:
            (first,) = cursor.execute("SELECT coalesce(max(result), 0) FROM image_rows").fetchall()[
                0
            ]
            cursor.execute(
                "INSERT INTO image_rows SELECT ((row_number() OVER ()) + $1)::INTEGER, * "
                "FROM new_images",
                [first],
            )
        keys = ("chunk_id", "image_id")
        objects = part.dataset("objects").scanner(columns=[*keys, *OBJECT_COLUMNS])
        cursor.register("new_objects", objects.to_reader())
        columns = ", ".join(f"new_objects.{name}" for name in OBJECT_COLUMNS)
        select = (
            f"SELECT result, {columns} FROM new_objects "  # noqa: S608 - names of ours
            f"JOIN image_rows USING (chunk_id, image_id) WHERE result > {int(first)}"
        )
        into = "INSERT INTO object_rows" if self.version else "CREATE TABLE object_rows AS"
        cursor.execute(f"{into} {select}")
        if gone:
            cursor.execute("CREATE OR REPLACE TEMP TABLE gone AS SELECT unnest($1)", [list(gone)])
            doomed = "(SELECT result FROM image_rows WHERE chunk_id IN (FROM gone))"
            cursor.execute(f"DELETE FROM object_rows WHERE result IN {doomed}")  # noqa: S608
            cursor.execute("DELETE FROM image_rows WHERE chunk_id IN (FROM gone)")
        if not self.version:
            cursor.execute("CREATE VIEW images AS SELECT * EXCLUDE (result) FROM image_rows")
            cursor.execute(
                "CREATE VIEW objects AS SELECT * EXCLUDE (result) "
                "FROM object_rows JOIN image_rows USING (result)"
            )
        cursor.execute(_FACTS)

    def ask(self, sql: str, parameters: list[Any] | None = None) -> list[tuple[Any, ...]]:
        """Rows of the answer to SQL of ours."""
        return list(self._run(sql, parameters, "rows"))

    def columns(self, sql: str, parameters: list[Any] | None = None) -> dict[str, Any]:
        """The same as numpy arrays by name; with nulls they are masked."""
        found: dict[str, Any] = self._run(sql, parameters, "numpy")
        return found

    def _run(self, sql: str, parameters: list[Any] | None, form: str) -> Any:
        with self._connection.cursor() as cursor:
            stop = threading.Timer(SECONDS, cursor.interrupt)
            stop.daemon = True
            stop.start()
            try:
                answer = cursor.execute(sql, parameters or [])
                return answer.fetchall() if form == "rows" else answer.fetchnumpy()
            except duckdb.InterruptException:
                raise SpecError(f"this took longer than {SECONDS:g} s and was stopped") from None
            except duckdb.Error as error:
                raise SpecError(str(error)) from error
            finally:
                stop.cancel()

    def cursor(self) -> duckdb.DuckDBPyConnection:
        """For checks of a statement; to be closed."""
        return self._connection.cursor()

    def close(self) -> None:
        with self._writing:
            self._connection.close()
            self._folder.cleanup()
