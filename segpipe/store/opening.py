"""A store at an address: an existing one, after a look at its marker, or a new one."""

from __future__ import annotations

import json
from pathlib import Path

from segpipe.errors import SpecError
from segpipe.store import layout
from segpipe.store.addresses import files_at
from segpipe.store.files import Files
from segpipe.store.snapshot import Snapshot


def open_store(path: str | Path) -> Snapshot:
    """A snapshot of an existing store, in a folder or at an address such as `s3://bucket/name`.

    Raises:
        SpecError: there is no store at `path`, or it is of another format version.
    """
    return Snapshot(open_files(path))


def open_files(path: str | Path) -> Files:
    """The files of an existing store, after a look at its marker."""
    files = files_at(path)
    try:
        marker = json.loads(files.read(layout.MARKER))
    except OSError as error:
        raise SpecError(f"{path}: no segpipe store here ({layout.MARKER} is missing)") from error
    except ValueError as error:
        raise SpecError(f"{path}: {layout.MARKER} is damaged: {error}") from error
    version = marker.get("format_version") if isinstance(marker, dict) else None
    if version != layout.FORMAT_VERSION and version not in layout.OLDER_VERSIONS:
        known = ", ".join(map(str, (*layout.OLDER_VERSIONS, layout.FORMAT_VERSION)))
        raise SpecError(f"{path}: store format {version!r}; this segpipe reads {known}")
    return files


def create_store(path: str | Path) -> Files:
    """The files of a store at `path`, made there if the folder, or the prefix, is empty.

    Raises:
        SpecError: the place cannot become a store, since it holds something else.
    """
    files = files_at(path)
    try:
        found = set(files.names(""))
    except NotADirectoryError as error:
        raise SpecError(f"{path}: is a file; a store is a folder") from error
    if layout.MARKER in found:
        return _raised(open_files(path))
    if found - {layout.MASKS}:  # of a store whose making was cut short
        raise SpecError(f"{path}: holds something else; give a new or an empty folder")
    try:
        files.create(f"{layout.MASKS}/zarr.json", layout.MASKS_ROOT)
        files.sync([layout.MASKS, ""])
        files.create(layout.MARKER, layout.marker())
    except OSError as error:
        raise SpecError(f"{path}: cannot be made: {error.strerror}") from error
    return files


def _raised(files: Files) -> Files:
    """A store of an older format says from now on that it holds what the newer one may hold.

    All that an older store holds is good as it is; an older segpipe will refuse the store.
    """
    found = json.loads(files.read(layout.MARKER))
    if found["format_version"] != layout.FORMAT_VERSION:
        oldest = found.get("raised_from", found["format_version"])
        files.replace(layout.MARKER, layout.marker(raised_from=oldest))
    return files
