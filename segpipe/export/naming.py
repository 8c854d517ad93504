"""Where the result of an image goes below an export folder."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath
from typing import Any

SUFFIXES = (".png", ".tif")

_MAX_NAME_BYTES = 255

Row = Mapping[str, Any]


class Naming:
    """Gives each image a path of its own, close to the image's own relative path.

    `a/b/c.tif` becomes `a/b/c.png`. Where another image could take that name too (`a/b/c.jpg`,
    also `A/B/C.TIF`, which some file systems hold to be the same), each of them keeps its full
    name, `a/b/c.tif.png`; where even that is not unique, the image's id is appended to it. A name
    that is too long for a file system becomes the image's id.
    """

    def __init__(self, rows: Iterable[Row]) -> None:
        """Look at the path and the id of every image of an export."""
        self._claims: Counter[str] = Counter()
        folders: set[str] = set()
        for row in rows:
            source = _relative(row["path"])
            self._claims.update({_key(name) for name in _candidates(source, row["image_id"])})
            folders.update(
                _key(folder.with_suffix(""))
                for folder in source.parents
                if folder.suffix.lower() in SUFFIXES
            )
        self._claims.update(folders)

    def path_of(self, row: Row, suffix: str) -> PurePosixPath:
        """Relative path with one of `SUFFIXES`, without any `..`, of no other image."""
        *preferred, last = _candidates(_relative(row["path"]), row["image_id"])
        free = (name for name in preferred if self._claims[_key(name)] == 1)
        name = next(free, last)
        return name.with_name(name.name + suffix)


def _relative(path: str) -> PurePosixPath:
    """The path as one that stays below where it is put, whatever an archive member is called.

    A leading `/` goes, `..` becomes `%2E%2E`, a NUL `%00`; all else is unchanged.
    """
    parts = [part for part in path.replace("\0", "%00").split("/") if part not in ("", ".")]
    return PurePosixPath(*(part if part != ".." else "%2E%2E" for part in parts))


def _candidates(source: PurePosixPath, image_id: str) -> list[PurePosixPath]:
    """Names without the suffix that is to come, the best first, and the image's own last."""
    names = (source.stem, source.name, f"{source.name}.{image_id}", image_id)
    longest = _MAX_NAME_BYTES - max(map(len, SUFFIXES))
    return [source.parent / name for name in names if name and len(name.encode()) <= longest]


def _key(path: PurePosixPath) -> str:
    """Equal for paths that some file system holds to be the same."""
    return unicodedata.normalize("NFC", str(path)).casefold()
