"""The files of a folder, as a stream."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import quote

from segpipe.readers.extensions import is_image_name
from segpipe.readers.files import file_ref, refusal
from segpipe.readers.names import file_uri, readable
from segpipe.readers.sorting import sorted_names
from segpipe.readers.zarr_folder import folder_ref, is_listed_whole
from segpipe.records import ImageRef


@dataclass(frozen=True, slots=True)
class _Entry:
    name: bytes
    path: str
    is_folder: bool
    is_link: bool


_MARKS = {ord("0") + mark: (bool(mark & 2), bool(mark & 1)) for mark in range(4)}
"""(is a folder, is a link)."""


class _Folder:
    """A folder on the way down, with the beginning of the names of all that is in it."""

    def __init__(self, path: str, uri: str, shown: str) -> None:
        self.entries = _entries(path, uri, shown)
        self._uri = uri if uri.endswith("/") else f"{uri}/"
        self._shown = f"{shown}/" if shown else ""

    def names(self, entry: _Entry) -> tuple[str, str]:
        """(uri, readable path) of an entry."""
        return self._uri + quote(entry.name), self._shown + readable(entry.name)


def walk_folder(root: str) -> Iterator[ImageRef | None]:
    """The images under `root`, depth first, names in the order of their bytes.

    None stands for a file that is no image by its extension. An OME-Zarr is one image, and what is
    in its folder is neither. Only the entries of the folders
    between `root` and the current one are held. A link to a folder is followed when it leads out
    of `root`, once; other such links show what is, or will be, walked anyway. A folder that
    cannot be read is an image ref of its own, refused.
    """
    inside = os.path.realpath(root) + os.sep
    seen = {_identity(root)}
    stack = [_Folder(root, file_uri(root), "")]
    while stack:
        entry = next(stack[-1].entries, None)
        if isinstance(entry, _Entry) and entry.is_folder:
            if _leads_back(entry, inside, seen):
                continue
            uri, shown = stack[-1].names(entry)
            if is_listed_whole(entry.path):
                yield folder_ref(entry.path, shown, uri)
            else:
                stack.append(_Folder(entry.path, uri, shown))
        elif isinstance(entry, _Entry):
            image = is_image_name(entry.name)
            uri, shown = stack[-1].names(entry)
            yield file_ref(entry.path, shown, uri) if image else None
        elif entry is not None:
            yield entry
        else:
            stack.pop()


def _entries(folder: str, uri: str, shown: str) -> Iterator[_Entry | ImageRef]:
    """Sorted entries of `folder`, or itself, refused, when it cannot be read."""
    try:
        with os.scandir(folder) as found:
            marked = sorted_names(os.fsencode(item.name) + _mark(item) for item in found)
    except OSError as error:
        problem = refusal(error)
        detail = f"the folder cannot be read: {problem.detail}"
        yield ImageRef(uri, shown or ".", 0, 0, problem.reason, detail)
        return
    for name in marked:
        path = os.path.join(folder, os.fsdecode(name[:-2]))  # noqa: PTH118 - keeps any bytes
        yield _Entry(name[:-2], path, *_MARKS[name[-1]])


def _mark(item: os.DirEntry[str]) -> bytes:
    """What tells folders and links, after a NUL: names that begin alike keep their order."""
    return b"\0%d" % (2 * _is_folder(item) + item.is_symlink())


def _is_folder(item: os.DirEntry[str]) -> bool:
    try:
        return item.is_dir()
    except OSError:  # a link that leads to itself
        return False


def _leads_back(entry: _Entry, inside: str, seen: set[tuple[int, int]]) -> bool:
    """Whether this folder was walked, or (for a link) lies in the root; remembers it if not."""
    if entry.is_link and (os.path.realpath(entry.path) + os.sep).startswith(inside):
        return True
    try:
        identity = _identity(entry.path)
    except OSError:
        return False  # listing it will fail too, and that is told
    if identity in seen:
        return True
    seen.add(identity)
    return False


def _identity(folder: str) -> tuple[int, int]:
    found = os.stat(folder)  # noqa: PTH116 - a string, as everywhere on this path
    return found.st_dev, found.st_ino
