"""An object as a file of which only what is read is fetched."""

from __future__ import annotations

import io

from segpipe.buckets.bucket import Bucket

FIRST = 64 << 10
"""Bytes of a first request, and of one after a jump: most headers end before."""

LONGEST = 16 << 20
"""Bytes of a request at most, so that each is answered in time and little is held."""


class ObjectFile(io.RawIOBase):
    """A version of an object, seekable; it holds the last block that was fetched.

    Each block that follows on the one before, or nearly, is twice as long, so that reading on to
    the end, or from mark to mark, takes few requests, and looking here and there fetches little.
    """

    def __init__(self, bucket: Bucket, key: str, size: int, etag: str | None) -> None:
        """
        Args:
            size: of the object, in bytes.
            etag: of the version; bytes of another are refused.
        """
        self._bucket = bucket
        self._key = key
        self._size = size
        self._etag = etag
        self._place = 0
        self._start = 0
        self._block = memoryview(b"")
        self._length = FIRST

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        origin = {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._size}[whence]
        if origin + offset < 0:
            raise ValueError(f"a negative position: {origin + offset}")
        self._place = origin + offset
        return self._place

    def readinto(self, buffer: bytearray | memoryview, /) -> int:  # type: ignore[override]
        """
        Raises:
            InputError: the object is gone, was overwritten, or may not be read.
            StoreError, TransientStoreError: the storage fails, not the object.
        """
        wanted = min(len(buffer), max(0, self._size - self._place))
        if not wanted:
            return 0
        if not self._start <= self._place < self._start + len(self._block):
            self._fetch(wanted)
        begin = self._place - self._start
        data = self._block[begin : begin + wanted]
        buffer[: len(data)] = data
        self._place += len(data)
        return len(data)

    def _fetch(self, wanted: int) -> None:
        ahead = self._place - self._start - len(self._block)
        follows = self._block and 0 <= ahead <= self._length
        self._length = min(2 * self._length, LONGEST) if follows else FIRST
        # A buffer asks for its own multiple first and for the rest later: fetch that now.
        whole = -(-(wanted + io.DEFAULT_BUFFER_SIZE) // FIRST) * FIRST
        length = min(max(self._length, whole), LONGEST, self._size - self._place)
        self._block = memoryview(b"")  # not two of them at once
        self._block = self._bucket.fetch(self._key, self._place, length, self._etag)
        self._start = self._place
