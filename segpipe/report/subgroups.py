"""Columns of an index of images: subgroups to report, and units that belong together."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from segpipe.errors import SpecError

MAX_FILE_BYTES = 256 << 20


class ImageIndex:
    """A CSV file with a header, one row per image.

    The column that names the images is the one that names most of those that are asked for: by
    path in the collection or by file name, with suffix or without.
    """

    def __init__(self, path: Path) -> None:
        """Read the file.

        Raises:
            SpecError: it cannot be read, or is no such table.
        """
        self.path = path
        try:
            if path.stat().st_size > MAX_FILE_BYTES:
                raise SpecError(f"{path}: larger than {MAX_FILE_BYTES:,} bytes")
            with path.open(encoding="utf-8-sig", newline="") as file:
                rows = list(csv.reader(file))
        except OSError as error:
            raise SpecError(f"{path}: cannot be read: {error.strerror}") from error
        except (csv.Error, UnicodeDecodeError) as error:
            raise SpecError(f"{path}: not a CSV file: {error}") from error
        if not rows or len(set(rows[0])) < len(rows[0]):
            raise SpecError(f"{path}: the first line must name the columns, each differently")
        self.columns = tuple(rows[0])
        self._rows = [row for row in rows[1:] if row]
        for number, row in enumerate(self._rows, start=2):
            if len(row) != len(self.columns):
                raise SpecError(
                    f"{path}: row {number} has {len(row)} values for {len(self.columns)} columns"
                )

    def column(self, name: str, images: Sequence[str]) -> list[str | None]:
        """The value of a column for each image path; None where the image is not listed.

        Raises:
            SpecError: there is no such column, no column names the images, or it names one twice.
        """
        if name not in self.columns:
            known = ", ".join(self.columns)
            raise SpecError(f"{self.path}: no column {name!r}; it has: {known}")
        rows = self._rows_by_name(images)
        found = [next((rows[one] for one in _names(path) if one in rows), None) for path in images]
        position = self.columns.index(name)
        return [None if row is None else row[position] for row in found]

    def _rows_by_name(self, images: Sequence[str]) -> Mapping[str, list[str]]:
        wanted = {name for path in images for name in _names(path)}
        hits = [len(wanted & {row[c] for row in self._rows}) for c in range(len(self.columns))]
        if not max(hits, default=0):
            raise SpecError(
                f"{self.path}: no column names one of the images, such as {', '.join(images[:1])}"
            )
        position = hits.index(max(hits))
        rows: dict[str, list[str]] = {}
        for row in self._rows:
            if row[position] in rows and row[position] in wanted:
                raise SpecError(
                    f"{self.path}: {row[position]!r} is more than once in the column "
                    f"{self.columns[position]!r}, which names the images"
                )
            rows[row[position]] = row
        return rows


def _names(path: str) -> tuple[str, ...]:
    """What an index may call an image, the most exact name first."""
    pure = PurePosixPath(path)
    return path, str(pure.with_suffix("")), pure.name, pure.stem
