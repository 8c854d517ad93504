"""Where the result of an image goes below an export folder."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath
from typing import Any

SUFFIXES = (".png", ".tif", ".txt", ".zip", ".geojson", ".ome.zarr")

CLASSES = ".classes"
"""Behind the name of an image: the class image of a semantic model."""

_MAX_NAME_BYTES = 255
_LONGEST = len(CLASSES) + max(map(len, SUFFIXES)) + len("..old")
"""What may stand around a name, that of a folder which is being replaced included."""

Row = Mapping[str, Any]


class Naming:
    """Gives each image a path of its own, close to the image's own relative path.

    `a/b/c.tif` becomes `a/b/c.png`. Where another image could take that name too (`a/b/c.jpg`,
    also `A/B/C.TIF`, which some file systems hold to be the same), each of them keeps its full
    name, `a/b/c.tif.png`; where even that is not unique, the image's id is appended to it. A name
    that is too long for a file system becomes the image's id.
    """

    def __init__(self, rows: Iterable[Row], second: str = "") -> None:
        """Look at the path and the id of every image of an export.

        Args:
            second: an image has a second file, whose name is that of the first one and this.
        """
        self._second = second
        self._claims: Counter[str] = Counter()
        folders: set[str] = set()
        for row in rows:
            source = _relative(row["path"])
            candidates = _candidates(source, row["image_id"])
            self._claims.update({key for name in candidates for key in self._keys(name)})
            folders.update(
                _key(folder.with_name(folder.name[: -len(suffix)]))
                for folder in source.parents
                for suffix in SUFFIXES
                if folder.name.lower().endswith(suffix) and len(folder.name) > len(suffix)
            )
        self._claims.update(folders)

    def path_of(self, row: Row, suffix: str) -> PurePosixPath:
        """Relative path that ends in one of `SUFFIXES`, without any `..`, of no other image."""
        *preferred, last = _candidates(_relative(row["path"]), row["image_id"])
        free = (
            name for name in preferred if all(self._claims[key] == 1 for key in self._keys(name))
        )
        name = next(free, last)
        return name.with_name(name.name + suffix)

    def _keys(self, name: PurePosixPath) -> set[str]:
        """What an image of this name takes."""
        return {_key(name), _key(name.with_name(name.name + self._second))}


def _relative(path: str) -> PurePosixPath:
    """The path as one that stays below where it is put, whatever an archive member is called.

    A leading `/` goes, `..` becomes `%2E%2E`, a NUL `%00`; all else is unchanged.
    """
    parts = [part for part in path.replace("\0", "%00").split("/") if part not in ("", ".")]
    return PurePosixPath(*(part if part != ".." else "%2E%2E" for part in parts))


def _candidates(source: PurePosixPath, image_id: str) -> list[PurePosixPath]:
    """Names without the suffix that is to come, the best first, and the image's own last."""
    names = (source.stem, source.name, f"{source.name}.{image_id}", image_id)
    longest = _MAX_NAME_BYTES - _LONGEST
    return [source.parent / name for name in names if name and len(name.encode()) <= longest]


def _key(path: PurePosixPath) -> str:
    """Equal for paths that some file system holds to be the same."""
    return unicodedata.normalize("NFC", str(path)).casefold()
