"""From a listed image to its pixels, or to the one reason why there are none."""

from __future__ import annotations

import hashlib
import io
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO, Self

from segpipe.errors import InputError, Reason, SpecError
from segpipe.readers.archives import Archive, open_archive
from segpipe.readers.decode import Decoded, decode, inspect, stop_after
from segpipe.readers.isolated import IsolatedDecoder
from segpipe.readers.names import split_member
from segpipe.readers.places import Places
from segpipe.readers.structure import corrupt, decoder_errors, truncated
from segpipe.readers.watchdog import Watchdog
from segpipe.records import DecodedImage, Header, ImageRef
from segpipe.spec import Limits


class Reader:
    """Reads images; safe to use from several threads; archives stay open until it is closed.

    Every method raises `InputError` and nothing else for whatever is wrong with one image. Where
    the storage of the images fails as a whole, that is `StoreError` or `TransientStoreError`.

    Args:
        limits: what one image may cost.
        isolated: decode in a process of its own, where a decoder that hangs or crashes costs
            nothing but its image; about a third of a second for the first one.
        watchdog: ends this process when a decoder hangs in it; for a worker that is replaced.
        places: where images are; None for new connections.
    """

    def __init__(
        self,
        limits: Limits,
        isolated: bool = False,
        watchdog: Watchdog | None = None,
        places: Places | None = None,
    ) -> None:
        self._limits = limits
        self._isolated = IsolatedDecoder(limits) if isolated else None
        self._watchdog = watchdog
        self._places = places or Places()
        self._archives: dict[str, Archive] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        with self._lock:
            for archive in self._archives.values():
                archive.close()
            self._archives.clear()
        if self._isolated is not None:
            self._isolated.close()

    def header(self, ref: ImageRef) -> Header:
        """What the file says of itself; no pixel is read, whatever the header claims.

        Raises:
            InputError: it cannot be read, is not an image of a kind that is read, or is over
                `max_pixels` or `max_file_bytes`.
        """
        with decoder_errors(), self._open(ref) as (file, size):
            return inspect(file, size, self._limits)

    def read(self, ref: ImageRef) -> DecodedImage:
        """Decode the first frame, upright, by the table in `segpipe.readers.convert`.

        The file is read once; its hash is of the very bytes that were decoded. Pixels may be
        read-only.

        Raises:
            InputError: as `header`, or truncated, corrupt, or over `decode_seconds`, which count
                from when its bytes are in memory.
            EngineError: no process can be started to decode it in (`isolated`).
        """
        with decoder_errors(), self._open(ref) as (file, size):
            data = file.read(size)
        if len(data) < size:
            raise truncated(f"its {size:,} bytes, after {len(data):,}")
        decoded = self._decode(data)
        sha256 = hashlib.sha256(data).hexdigest()
        return DecodedImage(decoded.pixels, decoded.header, sha256, decoded.n_nonfinite)

    def sha256(self, ref: ImageRef) -> str:
        """Of the file's (or archive member's) bytes, which are read and not decoded.

        Raises:
            InputError: it cannot be read, or is over `max_file_bytes`.
        """
        digest = hashlib.sha256()
        with decoder_errors(), self._open(ref) as (file, size):
            while size > 0 and (block := file.read(min(size, 1 << 20))):
                digest.update(block)
                size -= len(block)
        return digest.hexdigest()

    def unchanged(self, ref: ImageRef) -> bool:
        """Whether size and modification time, or the etag of an object, are as listed.

        For a member of an archive that is about the archive. True for what the listing refused: it
        is not read, so it cannot have changed under us.
        """
        if ref.refused is not None:
            return True
        return self._places.unchanged(ref, split_member(ref.uri)[0])

    def _decode(self, data: bytes) -> Decoded:
        if self._isolated is not None:
            return self._isolated.decode(data)
        if self._watchdog is not None:
            with self._watchdog.watch(stop_after(self._limits)):
                return decode(data, self._limits)
        return decode(data, self._limits)

    @contextmanager
    def _open(self, ref: ImageRef) -> Iterator[tuple[BinaryIO, int]]:
        """A seekable stream of the image's bytes and how many there are."""
        if ref.refused is not None:
            raise InputError(ref.refused, ref.refused_detail)
        outer, member = split_member(ref.uri)
        if member is None:
            file, size = self._places.open(outer, ref.size_bytes, ref.etag)
            with file:
                self._check_size(size)
                yield file, size
        else:
            archive = self._archive(outer, ref.etag)
            with archive.open(member) as (stream, size):
                self._check_size(size)
                # A TIFF whose pages lie back and forth would be decompressed once for each.
                yield io.BytesIO(stream.read(size)) if archive.compressed else stream, size

    def _archive(self, uri: str, etag: str | None) -> Archive:
        with self._lock:
            if uri not in self._archives:
                try:
                    self._archives[uri] = open_archive(*self._places.open(uri, etag=etag))
                except SpecError as error:
                    raise corrupt(str(error)) from error
            return self._archives[uri]

    def _check_size(self, size: int) -> None:
        if size > self._limits.max_file_bytes:
            raise InputError(
                Reason.TOO_LARGE,
                f"{size:,} bytes; the limit is {self._limits.max_file_bytes:,}"
                " (limits.max_file_bytes)",
            )
