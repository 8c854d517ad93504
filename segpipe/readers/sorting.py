"""Sorting more names than memory should hold: a huge folder is listed in order all the same."""

from __future__ import annotations

import heapq
import tempfile
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import BinaryIO

IN_MEMORY = 100_000
"""Names that are sorted at a time; about 10 MB."""

_BLOCK = 1000
_SEPARATOR = b"/"


def sorted_names(names: Iterable[bytes], in_memory: int = IN_MEMORY) -> Iterator[bytes]:
    """Names without a slash, in the order of their bytes; all are taken before this returns.

    Those beyond `in_memory` wait, sorted in parts, in temporary files.
    """
    names = iter(names)
    part = sorted(islice(names, in_memory))
    if len(part) < in_memory:
        return iter(part)
    files = []
    while part:
        files.append(_written(part))
        part = sorted(islice(names, in_memory))
    return heapq.merge(*map(_read, files))


def _written(names: list[bytes]) -> BinaryIO:
    file = tempfile.TemporaryFile()  # noqa: SIM115 - it goes with who reads it
    for start in range(0, len(names), _BLOCK):
        data = _SEPARATOR.join(names[start : start + _BLOCK])
        file.write(len(data).to_bytes(8) + data)
    return file


def _read(file: BinaryIO) -> Iterator[bytes]:
    file.seek(0)
    while size := file.read(8):
        yield from file.read(int.from_bytes(size)).split(_SEPARATOR)
