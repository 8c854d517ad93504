"""A shard of Zarr v3, the file that holds many inner chunks (`sharding_indexed`, ZEP 2).

The compressed chunks come one after the other, then an index: for each chunk its offset and its
length, little-endian uint64, all ones where a chunk holds nothing but zeros and is left out; then
the CRC-32C of the index. zarr-python packs and unpacks whole blocks of raw pixels through an event
loop and threads of its own; done here, chunk by chunk, the work is that of the compressor.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

import google_crc32c
import numpy as np
import pyarrow as pa

ZSTD_LEVEL = 1

_EMPTY = (1 << 64) - 1
_CHECKSUM = struct.Struct("<I")


def pack(chunks: Sequence[bytes | None]) -> bytes:
    """A shard of its compressed inner chunks, in C order; None for one without a label."""
    index = np.full((len(chunks), 2), _EMPTY, "<u8")
    offset = 0
    for entry, chunk in zip(index, chunks, strict=True):
        if chunk is not None:
            entry[:] = offset, len(chunk)
            offset += len(chunk)
    table = index.tobytes()
    found = (chunk for chunk in chunks if chunk is not None)
    return b"".join((*found, table, _CHECKSUM.pack(google_crc32c.value(table))))


class Shard:
    """The bytes of a shard, and where its inner chunks lie in them.

    Raises:
        ValueError: these are not the bytes of a shard of so many chunks.
    """

    def __init__(self, data: bytes, count: int) -> None:
        """`count` is the number of inner chunks, the left out ones included."""
        end = len(data) - _CHECKSUM.size
        start = end - 16 * count
        table = data[max(start, 0) : max(end, 0)]
        if start < 0 or google_crc32c.value(table) != _CHECKSUM.unpack(data[end:])[0]:
            raise ValueError("the index of a Zarr shard is damaged")
        self._data = memoryview(data)
        self._index = np.frombuffer(table, "<u8").reshape(count, 2).tolist()

    def chunk(self, place: int) -> memoryview | None:
        """The compressed bytes of an inner chunk; None where it was left out."""
        offset, length = self._index[place]
        return None if offset == _EMPTY else self._data[offset : offset + length]


def compress(pixels: np.ndarray) -> bytes:
    """The bytes of a C-contiguous array as one Zstandard frame."""
    return bytes(pa.Codec("zstd", ZSTD_LEVEL).compress(pixels, asbytes=True))


def decompress(frame: memoryview, size: int) -> memoryview:
    """Back to `size` bytes.

    Raises:
        OSError: it is no such frame.
    """
    return memoryview(pa.Codec("zstd").decompress(frame, size))
