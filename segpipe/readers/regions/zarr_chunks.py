"""Chunks of a Zarr array in a folder: found, unpacked, and never more than they may be."""

from __future__ import annotations

import json
import math
import os
import struct
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO

import numpy as np

from segpipe.errors import InputError, Reason
from segpipe.readers.archives import unsafe_name
from segpipe.readers.convert import Samples
from segpipe.readers.files import open_file
from segpipe.readers.regions.source import RegionLimits, check_memory
from segpipe.readers.regions.zarr_layout import ArrayLayout, Packing
from segpipe.readers.structure import corrupt, truncated
from segpipe.readers.zarr_folder import MAX_METADATA

_ABSENT = (1 << 64) - 1
_CHECKSUM = struct.Struct("<I")
_ENTRY = struct.Struct("<QQ")


class ZarrFolder:
    """Reads files of one folder and below it; links that lead out of it are refused."""

    def __init__(self, root: str, limits: RegionLimits) -> None:
        self._root = os.path.realpath(root)
        self._limits = limits

    def metadata(self, name: str) -> dict[str, Any]:
        """A JSON object.

        Raises:
            InputError: it is not there, too large, or no object.
        """
        data = self._read(name, 0, None, MAX_METADATA)
        if data is None:
            raise InputError(Reason.NOT_FOUND, f"{name[-80:]!r}, which an OME-Zarr has")
        try:
            found = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise corrupt(f"{name[-80:]!r} is no JSON: {error}") from error
        if not isinstance(found, dict):
            raise corrupt(f"{name[-80:]!r} holds no JSON object")
        return found

    def present(self, names: Iterable[str]) -> Iterator[str]:
        """Those files of the folder that are there."""
        return (name for name in names if os.path.lexists(self._path(name)))

    def open(self, name: str) -> tuple[BinaryIO, int]:
        """A file of the folder, and its size in bytes.

        Raises:
            InputError: it cannot be read, or leads out of the folder.
        """
        file, found = open_file(self._path(name))
        return file, found.st_size

    def chunk(self, path: str, layout: ArrayLayout, place: tuple[int, ...]) -> Samples:
        """The decoded chunk at `place` (counted in chunks), of `layout.chunk`.

        Raises:
            InputError: it is truncated or damaged, or inflates beyond its size.
        """
        packed = self._packed(path, layout, place)
        if packed is None:
            return np.full(layout.chunk, layout.fill, layout.packing.dtype.newbyteorder("="))
        return unpacked(packed, layout.packing, layout.chunk)

    def _packed(self, path: str, layout: ArrayLayout, place: tuple[int, ...]) -> bytes | None:
        sharding = layout.sharding
        most = self._limits.memory_bytes
        if sharding is None:
            return self._read(_key(path, layout, place), 0, None, most)
        shard, inner, per_shard = _shard_of(layout, place)
        key = _key(path, layout, shard)
        number = int(np.ravel_multi_index(inner, per_shard))
        size = math.prod(per_shard) * _ENTRY.size + sharding.checksum * _CHECKSUM.size
        check_memory(size, "the index of a shard", self._limits)
        index = self._read(key, -size if sharding.at_end else 0, size, most)
        if index is None:
            return None
        if sharding.checksum:
            index = _without_checksum(index, "the index of a shard")
        offset, length = _ENTRY.unpack_from(index, number * _ENTRY.size)
        if offset == length == _ABSENT:
            return None
        packed = self._read(key, offset, length, most)
        if packed is None:
            raise truncated("a shard")
        return packed

    def _read(self, name: str, offset: int, length: int | None, most: int) -> bytes | None:
        """Bytes of a file, or None where there is no such file.

        Args:
            offset: from the end where it is negative.
            length: None for all.
        """
        try:
            file, size = self.open(name)
        except InputError as error:
            if error.reason is Reason.NOT_FOUND:
                return None
            raise
        with file:
            start = size + offset if offset < 0 else offset
            wanted = size if length is None else length
            if wanted > most:
                raise InputError(
                    Reason.TOO_LARGE, f"{name[-80:]!r}: {wanted:,} bytes; the limit is {most:,}"
                )
            if start < 0 or start + wanted > size:
                raise truncated(f"{name[-80:]!r} ({start:,} + {wanted:,} of {size:,} bytes)")
            file.seek(start)
            return file.read(wanted)

    def _path(self, name: str) -> str:
        path = os.path.join(self._root, name)  # noqa: PTH118 - any bytes, as strings
        refused = unsafe_name(os.fsencode(name))
        if refused or not os.path.realpath(path).startswith(self._root + os.sep):
            raise InputError(
                Reason.UNSAFE_MEMBER,
                f"{name[-80:]!r} leads out of its folder ({refused or 'a link'})",
            )
        return path


def chunk_file(path: str, layout: ArrayLayout, place: tuple[int, ...]) -> str:
    """The name of the file in which the chunk at `place` is, which may be a shard."""
    return _key(path, layout, _shard_of(layout, place)[0])


def unpacked(packed: bytes, packing: Packing, shape: tuple[int, ...]) -> Samples:
    """A chunk of `shape`, in native byte order.

    Raises:
        InputError: its checksum is wrong, or it inflates to another size than it is to have.
    """
    if packing.checksum:
        packed = _without_checksum(packed, "a chunk")
    size = math.prod(shape) * packing.dtype.itemsize
    raw = _inflated(packed, packing.compressor, size)
    if len(raw) != size:
        raise corrupt(f"a chunk of {len(raw):,} bytes where {size:,} are due")
    samples: Samples = np.frombuffer(raw, packing.dtype).reshape(shape, order=packing.order)  # type: ignore[call-overload]
    return samples.astype(packing.dtype.newbyteorder("="), copy=False)


def _inflated(packed: bytes, compressor: str, size: int) -> bytes:
    """At most `size` bytes; a decoder is given no room for more."""
    import imagecodecs

    if not compressor:
        return packed
    if compressor == "blosc" and int.from_bytes(packed[4:8], "little") != size:
        raise corrupt(f"a chunk that does not say that it has {size:,} bytes")
    options = {"numthreads": 1} if compressor == "blosc" else {}
    try:
        return bytes(getattr(imagecodecs, f"{compressor}_decode")(packed, out=size, **options))
    except Exception as error:  # each decoder has a class of its own
        raise corrupt(f"a chunk that does not inflate to {size:,} bytes: {error}") from error


def _without_checksum(data: bytes, what: str) -> bytes:
    import google_crc32c

    content, end = data[: -_CHECKSUM.size], data[-_CHECKSUM.size :]
    if len(end) < _CHECKSUM.size or google_crc32c.value(content) != _CHECKSUM.unpack(end)[0]:
        raise corrupt(f"{what} whose CRC-32C is not that of its bytes")
    return content


def _shard_of(
    layout: ArrayLayout, place: tuple[int, ...]
) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """(place of the file of a chunk, place of the chunk in it, chunks in a file by axis)."""
    shape = layout.chunk if layout.sharding is None else layout.sharding.shape
    per_shard = tuple(whole // part for whole, part in zip(shape, layout.chunk, strict=True))
    shard = tuple(index // n for index, n in zip(place, per_shard, strict=True))
    inner = tuple(index % n for index, n in zip(place, per_shard, strict=True))
    return shard, inner, per_shard


def _key(path: str, layout: ArrayLayout, place: tuple[int, ...]) -> str:
    return f"{path}/{layout.prefix}{layout.separator.join(map(str, place))}"
