"""From a listed image to its pixels, or to the one reason why there are none."""

from __future__ import annotations

import hashlib
import io
import threading
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from typing import BinaryIO, Self, cast

from segpipe.errors import InputError, Reason, SpecError
from segpipe.readers.archives import Archive, open_archive
from segpipe.readers.decode import Decoded, decode, inspect, stop_after
from segpipe.readers.hashing import folder_sha256, stream_sha256
from segpipe.readers.isolated import IsolatedDecoder
from segpipe.readers.names import split_member
from segpipe.readers.places import Places
from segpipe.readers.plane_refs import without_plane
from segpipe.readers.regions.ome_zarr import OmeZarrSource
from segpipe.readers.regions.source import RegionSource
from segpipe.readers.structure import corrupt, decoder_errors, truncated
from segpipe.readers.watchdog import Watchdog
from segpipe.readers.whole_plane import (
    Address,
    decode_plane,
    open_file_plane,
    open_folder,
    unnamed_errors,
)
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
        self._hashed: tuple[object, str] = (None, "")
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
            InputError: it cannot be read, is not an image of a kind that is read, is over
                `max_pixels` or `max_file_bytes`, or has no such plane, or none of 1 or 3 channels.
        """
        address = _address(ref)
        if address is not None:
            with self._plane(ref, address) as source:
                return source.header
        with decoder_errors(), self._open(ref) as (file, size):
            return inspect(file, size, self._limits)

    def read(self, ref: ImageRef) -> DecodedImage:
        """Decode the first frame, upright, by the table in `segpipe.readers.convert`.

        The file is read once; its hash is of the very bytes that were decoded. Pixels may be
        read-only. Of an OME-Zarr, and of a file of which the uri names a plane, only what this
        plane is made of is decoded, and is read again for the hash.

        Raises:
            InputError: as `header`, or truncated, corrupt, or over `decode_seconds`, which count
                from when its bytes are in memory.
            EngineError: no process can be started to decode it in (`isolated`).
        """
        address = _address(ref)
        if address is not None:
            decoded = self._decoded_plane(ref, address)
            sha256 = self.sha256(ref)
        else:
            data = self._bytes(ref)
            decoded = self._decode(data)
            sha256 = hashlib.sha256(data).hexdigest()
        return DecodedImage(decoded.pixels, decoded.header, sha256, decoded.n_nonfinite)

    def sha256(self, ref: ImageRef) -> str:
        """Of the file's (or archive member's) bytes, which are read and not decoded.

        Of the folder of an OME-Zarr it is that of the lines that `sha256sum` prints for those files
        that level 0 of its plane is read from (the metadata of the image and of all levels, and the
        files of its chunks), by their paths in the folder, sorted by the bytes of these. Where the
        uri names a plane, it is that of the text `HASH#z=3,t=0,c=1,2`: of the file or the folder,
        and of the plane. A file is read once for planes of it that follow each other.

        Raises:
            InputError: it cannot be read, or is over `max_file_bytes`.
        """
        address = _address(ref)
        if address is None:
            return self._file_sha256(ref)
        if address.folder is None:
            of_file = self._known_sha256(without_plane(ref))
        else:
            with self._plane(ref, address) as source, decoder_errors():
                of_file = folder_sha256(cast(OmeZarrSource, source))
        whole = f"{of_file}{address.fragment}"
        return hashlib.sha256(whole.encode()).hexdigest() if address.fragment else of_file

    def unchanged(self, ref: ImageRef) -> bool:
        """Whether size and modification time, or the etag of an object, are as listed.

        For a member of an archive that is about the archive. True for what the listing refused: it
        is not read, so it cannot have changed under us. For the folder of an OME-Zarr, whether its
        files are called what they were, with their sizes and times.
        """
        if ref.refused is not None:
            return True
        of_file = without_plane(ref)
        return self._places.unchanged(of_file, split_member(of_file.uri)[0])

    def changed(self, refs: Iterable[ImageRef]) -> set[str]:
        """Ids of those that are not `unchanged`; a file is looked at once for all its planes."""
        known: dict[ImageRef, bool] = {}
        changed = set()
        for ref in refs:
            of_file = replace(without_plane(ref), path="")
            if of_file not in known:
                known[of_file] = self.unchanged(of_file)
            if not known[of_file]:
                changed.add(ref.image_id)
        return changed

    def held_bytes(self, ref: ImageRef) -> int:
        """What reading it holds besides pixels: a file, or the chunks that a plane is in.

        Raises:
            InputError: as `header`.
        """
        address = _address(ref)
        if address is None or (address.folder is None and self._isolated is not None):
            return ref.size_bytes
        with self._plane(ref, address) as source:
            return source.held_bytes

    def _bytes(self, ref: ImageRef) -> bytes:
        with decoder_errors(), self._open(ref) as (file, size):
            data = file.read(size)
        if len(data) < size:
            raise truncated(f"its {size:,} bytes, after {len(data):,}")
        return data

    @contextmanager
    def _plane(self, ref: ImageRef, address: Address) -> Iterator[RegionSource]:
        with unnamed_errors(address.name), decoder_errors():
            if address.folder is not None:
                with open_folder(address, self._limits) as folder:
                    yield folder
                return
            with (
                self._open(without_plane(ref)) as (file, size),
                open_file_plane(file, size, address, self._limits) as source,
            ):
                yield source

    def _decoded_plane(self, ref: ImageRef, address: Address) -> Decoded:
        if self._isolated is not None:
            data = b"" if address.folder is not None else self._bytes(without_plane(ref))
            with unnamed_errors(address.name):
                return self._isolated.decode(data, address)
        with self._plane(ref, address) as source, self._watched():
            return decode_plane(source)

    def _file_sha256(self, ref: ImageRef) -> str:
        with decoder_errors(), self._open(ref) as (file, size):
            return stream_sha256(file, size)

    def _known_sha256(self, ref: ImageRef) -> str:
        """As `_file_sha256`; that of the file before is remembered."""
        with self._lock:
            before, sha256 = self._hashed
        if before != ref.version:
            sha256 = self._file_sha256(ref)
            with self._lock:
                self._hashed = ref.version, sha256
        return sha256

    def _decode(self, data: bytes) -> Decoded:
        if self._isolated is not None:
            return self._isolated.decode(data)
        with self._watched():
            return decode(data, self._limits)

    def _watched(self) -> AbstractContextManager[None]:
        if self._watchdog is None:
            return nullcontext()
        return self._watchdog.watch(stop_after(self._limits))

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


def _address(ref: ImageRef) -> Address | None:
    """Where it is no whole file.

    Raises:
        InputError: why it is not read, known from the listing; or its fragment names no plane.
    """
    if ref.refused is not None:
        raise InputError(ref.refused, ref.refused_detail)
    return Address.of(ref)
