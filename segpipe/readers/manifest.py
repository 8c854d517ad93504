"""A list of images in a file: .txt with a path per line, or .csv and .parquet with a column."""

from __future__ import annotations

import csv
import functools
import io
import itertools
import os
import posixpath
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote

from segpipe.errors import InputError, Reason, SpecError
from segpipe.provenance.redact import redact_url
from segpipe.readers.names import (
    is_object_uri,
    object_uri,
    readable,
    split_member,
    split_object_uri,
    split_uri,
)
from segpipe.readers.places import Places
from segpipe.readers.plane_refs import Look, fragment_ref, path_ref
from segpipe.readers.zarr_folder import local_ref
from segpipe.records import ImageRef

SUFFIXES = (".txt", ".csv", ".parquet")
_COLUMNS = ("path", "uri", "file")

_REQUESTS = 16
"""Objects that are asked for at a time, and entries that are taken from the manifest for that."""
_BATCH = 256
_LOOKED_AT = 64


def walk_manifest(source: str, uri: str, places: Places) -> Iterator[ImageRef | None]:
    """The images that the manifest names, in its order, missing ones as refused.

    None stands for a repetition: an image is done once. Relative paths are relative to the
    manifest, and of the same kind as it, a file's or a key; `file:///` URIs may stand for names
    that a line of text cannot hold, `s3://`, `gs://` and `az://` for objects. Behind each of them a
    plane may be named (`a.ome.tif#z=3,t=0,c=1,2`), which is an image of its own; where a file has
    a `#` in its name, a path that is such a name is that file.

    Args:
        source: what the manifest is called, `uri` where it is.

    Raises:
        SpecError: the manifest cannot be read, or has no column of paths.
    """
    root = uri.rpartition("/")[0]
    look = functools.lru_cache(_LOOKED_AT)(local_ref)  # of a file of many planes once
    named = functools.partial(_named, root=root, places=places, look=look)
    seen: set[str] = set()
    for ref in _asked(named, _entries(source, uri, places)):
        if ref.uri in seen:
            yield None
        else:
            seen.add(ref.uri)
            yield ref


def _asked(named: Callable[[str], ImageRef], entries: Iterator[str]) -> Iterator[ImageRef]:
    """Entries become images, in their order; objects are asked for several at a time."""
    with ThreadPoolExecutor(_REQUESTS, "segpipe-list") as pool:
        while batch := list(itertools.islice(entries, _BATCH)):
            yield from pool.map(named, batch)


def _named(entry: str, root: str, places: Places, look: Look) -> ImageRef:
    """One entry, which may be a relative or absolute path, or a URI.

    Args:
        root: URI of the folder or the prefix that it may be relative to.
    """
    shown = readable(os.fsencode(entry))
    if "://" in entry:
        return _at_uri(entry, shown, places, look)
    if not is_object_uri(root) or entry.startswith("/"):
        folder = "/" if is_object_uri(root) else split_uri(root + "/")[0]
        return path_ref(os.path.join(folder, entry), shown, look)  # noqa: PTH118 - keeps any bytes
    bucket, prefix = split_object_uri(root)
    ref = places.ref(object_uri(bucket, posixpath.normpath(f"{prefix}/{entry}".lstrip("/"))), shown)
    file, separator, fragment = entry.rpartition("#")
    if separator and ref.refused is Reason.NOT_FOUND:
        return fragment_ref(_named(file, root, places, look), fragment)
    return ref


def _at_uri(uri: str, shown: str, places: Places, look: Look) -> ImageRef:
    file, separator, fragment = uri.partition("#")
    if separator and (uri.startswith("file:///") or is_object_uri(uri)):
        of_file = _at_uri(file, shown.partition("#")[0], places, look)
        return fragment_ref(of_file, fragment)
    outer, member = split_member(uri)
    if member is not None:
        detail = "a manifest cannot name members of an archive; give the archive as SOURCE"
        return ImageRef(redact_url(uri), redact_url(shown), 0, 0, Reason.NOT_FOUND, detail)
    try:
        if is_object_uri(outer):
            return places.ref(object_uri(*split_object_uri(outer)), shown)
        return look(split_uri(outer)[0], shown)
    except ValueError as error:
        known = redact_url(uri)  # it may hold what somebody logs in with
        return ImageRef(
            quote(os.fsencode(known)), redact_url(shown), 0, 0, Reason.NOT_FOUND, str(error)
        )


def _entries(source: str, uri: str, places: Places) -> Iterator[str]:
    readers = {".txt": _lines, ".csv": _csv_column, ".parquet": _parquet_column}
    try:
        file, _ = places.open(uri)
        with file:
            yield from readers[Path(source).suffix.lower()](file, source)
    except InputError as error:
        raise SpecError(f"{source}: the manifest cannot be read: {error.detail}") from error


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
