"""Hashes of what images are read from."""

from __future__ import annotations

import hashlib
import os
from typing import BinaryIO

from segpipe.readers.regions.ome_zarr import OmeZarrSource

_BLOCK = 1 << 20


def stream_sha256(file: BinaryIO, size: int) -> str:
    """Of the next `size` bytes, or fewer where the file ends before."""
    digest = hashlib.sha256()
    while size > 0 and (block := file.read(min(size, _BLOCK))):
        digest.update(block)
        size -= len(block)
    return digest.hexdigest()


def folder_sha256(source: OmeZarrSource) -> str:
    """Of the lines that `sha256sum` prints for the files of a plane; see `Reader.sha256`.

    Raises:
        InputError: one of them cannot be read.
    """
    digest = hashlib.sha256()
    for name in source.files():
        file, size = source.open_file(name)
        with file:
            digest.update(stream_sha256(file, size).encode() + b"  " + os.fsencode(name) + b"\n")
    return digest.hexdigest()
