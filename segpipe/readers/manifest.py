"""A list of images in a file: .txt with a path per line, or .csv and .parquet with a column."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote

from segpipe.errors import InputError, Reason, SpecError
from segpipe.readers.files import file_ref, open_file
from segpipe.readers.names import readable, split_uri
from segpipe.records import ImageRef

SUFFIXES = (".txt", ".csv", ".parquet")
_COLUMNS = ("path", "uri", "file")


def walk_manifest(path: str) -> Iterator[ImageRef | None]:
    """The images that the manifest names, in its order, missing ones as refused.

    None stands for a repetition: an image is done once. Relative paths are relative to the
    manifest; `file:///` URIs may stand for names that a line of text cannot hold.

    Raises:
        SpecError: the manifest cannot be read, or has no column of paths.
    """
    root = os.path.dirname(os.path.abspath(path))  # noqa: PTH100, PTH120 - any bytes, as strings
    seen: set[str] = set()
    for entry in _entries(path):
        ref = _named(entry, root)
        if ref.uri in seen:
            yield None
        else:
            seen.add(ref.uri)
            yield ref


def _named(entry: str, root: str) -> ImageRef:
    """One entry, which may be a relative or absolute path, or a URI."""
    shown = readable(os.fsencode(entry))
    if "://" not in entry:
        return file_ref(os.path.join(root, entry), shown)  # noqa: PTH118 - keeps any bytes
    try:
        path, member = split_uri(entry)
    except ValueError as error:
        return ImageRef(quote(os.fsencode(entry)), shown, 0, 0, Reason.NOT_FOUND, str(error))
    if member is not None:
        detail = "a manifest cannot name members of an archive; give the archive as SOURCE"
        return ImageRef(entry, shown, 0, 0, Reason.NOT_FOUND, detail)
    return file_ref(path, shown)


def _entries(path: str) -> Iterator[str]:
    readers = {".txt": _lines, ".csv": _csv_column, ".parquet": _parquet_column}
    try:
        file, _ = open_file(path)
    except InputError as error:
        raise SpecError(f"{path}: the manifest cannot be read: {error.detail}") from error
    with file:
        yield from readers[Path(path).suffix.lower()](file, path)


def _lines(file: BinaryIO, path: str) -> Iterator[str]:  # noqa: ARG001
    for line in file:
        entry = line.rstrip(b"\r\n")
        if entry.strip():
            yield os.fsdecode(entry)


def _csv_column(file: BinaryIO, path: str) -> Iterator[str]:
    text = io.TextIOWrapper(file, "utf-8-sig", errors="surrogateescape", newline="")
    rows = csv.DictReader(text)
    with text:
        try:
            column = _column(rows.fieldnames or (), path)
            for row in rows:
                yield _present(row[column], path, rows.line_num)
        except csv.Error as error:
            raise SpecError(f"{path}: line {rows.line_num}: not a CSV file: {error}") from error


def _parquet_column(file: BinaryIO, path: str) -> Iterator[str]:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        table = parquet.ParquetFile(file)
        column = _column(table.schema_arrow.names, path)
        for batch in table.iter_batches(columns=[column]):
            for number, value in enumerate(batch.column(0).to_pylist(), start=1):
                yield _present(value, path, number)
    except pa.ArrowException as error:
        raise SpecError(f"{path}: not a Parquet file: {error}") from error


def _column(names: Sequence[str], path: str) -> str:
    for name in _COLUMNS:
        if name in names:
            return name
    if len(names) == 1:
        return names[0]
    raise SpecError(
        f"{path}: no column of paths: needed is one of {', '.join(_COLUMNS)}, or a single column;"
        f" found: {', '.join(names) or 'none'}"
    )


def _present(value: object, path: str, line: int) -> str:
    if isinstance(value, bytes):
        return os.fsdecode(value)
    if isinstance(value, str) and value:
        return value
    raise SpecError(f"{path}: row {line}: {value!r} is no path")
