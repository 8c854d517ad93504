"""Zip and tar archives, read as streams: nothing is ever extracted.

Names, sizes and positions of the members are held in memory, their contents are not.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import posixpath
import re
import stat
import struct
import tarfile
import threading
import unicodedata
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import BinaryIO, Protocol, cast

from segpipe.errors import InputError, Reason, SpecError
from segpipe.readers.extensions import is_archive_name

MAX_MEMBERS = 1_000_000
MAX_RATIO = 1000
RATIO_FLOOR = 16 << 20
"""Bytes; a member below may compress as well as it likes."""
_MAX_TAR_HEADER = 16 << 10
"""Bytes of a long name or of extended attributes; parsing them may take quadratic time."""

DAMAGE = (zipfile.BadZipFile, tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, OSError,
          ValueError, NotImplementedError, struct.error, OverflowError, RecursionError)  # fmt: skip
"""What the standard library raises on archives that are not what they should be."""


@dataclass(frozen=True, slots=True)
class Member:
    """A file in an archive; `refused` says why it is not read, and is empty where it is."""

    name: bytes
    size: int
    refused: str = ""


class Archive(Protocol):
    """An open archive; safe to use from several threads."""

    compressed: bool
    """Whether going back within a member may mean to decompress from its beginning again."""

    def members(self) -> Iterator[Member]:
        """All that is no directory, in the order of the archive. Raises one of `DAMAGE`."""

    def open(self, name: bytes) -> AbstractContextManager[tuple[BinaryIO, int]]:
        """A seekable stream of one member, and its size in bytes; `InputError` if it is absent."""

    def close(self) -> None: ...


def open_archive(file: BinaryIO, size: int) -> Archive:
    """A zip or tar archive, whichever its content says it is; it is closed with its file.

    Args:
        file: seekable; closed also when it is no archive.
        size: of the file, in bytes.

    Raises:
        InputError: the file cannot be read.
        SpecError: it is neither, or damaged from its beginning.
    """
    try:
        head = file.read(6)
        file.seek(0)
        if head.startswith((b"PK\3\4", b"PK\5\6", b"PK\7\x08")):
            return ZipArchive(file)
        return TarArchive(file, _decompressed(file, head), size)
    except DAMAGE as error:
        file.close()
        raise SpecError(f"not a readable zip or tar archive: {error}") from error


class ZipArchive:
    """Members in the order of the central directory."""

    compressed = True

    def __init__(self, file: BinaryIO) -> None:
        self._zip = zipfile.ZipFile(file)
        self._file = file
        infos = self._zip.infolist()
        _check_count(len(infos))
        self._infos = {_zip_name(info): info for info in infos}

    def members(self) -> Iterator[Member]:
        for info in self._zip.infolist():
            if not info.filename.endswith("/"):  # is_dir() fails on an empty name
                name = _zip_name(info)
                yield Member(name, info.file_size, unsafe_name(name) or _unsafe_zip(info))

    @contextmanager
    def open(self, name: bytes) -> Iterator[tuple[BinaryIO, int]]:
        info = self._infos.get(name)
        if info is None:
            raise _absent(name)
        with self._zip.open(info) as stream:
            yield cast(BinaryIO, stream), info.file_size

    def close(self) -> None:
        self._zip.close()
        self._file.close()


class TarArchive:
    """Members as they come; a compressed tar is decompressed up to the member that is asked for.

    Reading members in the order of the archive passes over it once. Going back in a compressed
    one starts again from its beginning, so such archives want one reader that goes forward.
    """

    def __init__(self, file: BinaryIO, stream: BinaryIO, file_size: int) -> None:
        self._file = file
        self._stream = stream
        self.compressed = stream is not file
        self._limit = RATIO_FLOOR + MAX_RATIO * file_size
        self._tar = tarfile.TarFile(
            fileobj=_TarHeaders(stream), encoding="utf-8", errors="surrogateescape"
        )
        self._lock = threading.Lock()
        self._found: dict[bytes, tuple[int, int]] = {}
        self._n_found = 0
        self._end = 0

    def members(self) -> Iterator[Member]:
        """Members until the end; one that inflates beyond measure is the last that is told."""
        while (info := self._next()) is not None:
            if info.isdir():
                continue
            name = _tar_name(info)
            bomb = info.offset_data + info.size > self._limit
            refused = unsafe_name(name) or _unsafe_tar(info)
            if bomb:
                refused = f"inflates by more than {MAX_RATIO}; the archive is not read beyond it"
            yield Member(name, info.size, refused)
            if bomb:
                return
        self._check_end()

    @contextmanager
    def open(self, name: bytes) -> Iterator[tuple[BinaryIO, int]]:
        with self._lock:
            while name not in self._found:
                if self._next() is None:
                    raise _absent(name)
            start, size = self._found[name]
            yield io.BufferedReader(_Window(self._stream, start, size)), size

    def close(self) -> None:
        self._tar.close()
        self._stream.close()
        self._file.close()

    def _next(self) -> tarfile.TarInfo | None:
        info = self._tar.next()
        if info is None:
            return None
        if info.size < 0 or self._tar.offset <= self._end:
            raise tarfile.ReadError(f"a member of {info.size} bytes at byte {self._end:,}")
        self._end = self._tar.offset
        # tarfile would keep every header; the positions are kept below
        self._tar.members.clear()  # type: ignore[attr-defined]
        self._n_found += 1
        _check_count(self._n_found)
        if info.isreg():
            self._found.setdefault(_tar_name(info), (info.offset_data, info.size))
        return info

    def _check_end(self) -> None:
        """tarfile takes a damaged header for the end; the end is a block of zeros."""
        self._stream.seek(self._tar.offset)
        block = self._stream.read(tarfile.BLOCKSIZE)
        if block != bytes(tarfile.BLOCKSIZE):
            raise tarfile.ReadError(f"no end-of-archive mark at byte {self._tar.offset:,}")


def unsafe_name(name: bytes) -> str:
    """Why a member's name is refused; empty when it is not."""
    parts = re.split(rb"[/\\]", name)
    if not name or b"\0" in name:
        return "an empty name or one with a NUL byte"
    if not parts[0] or re.match(rb"[A-Za-z]:", name):
        return "an absolute name"
    return "a name with '..'" if b".." in parts else ""


def ambiguity_key(name: bytes) -> str:
    """Names with one key are one file on some file system: case, Unicode form, `./` are gone."""
    text = name.decode("utf-8", "surrogateescape")
    return unicodedata.normalize("NFC", posixpath.normpath(text)).casefold()


def _unsafe_zip(info: zipfile.ZipInfo) -> str:
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind not in (0, stat.S_IFREG):
        return "a symbolic link" if kind == stat.S_IFLNK else "a device or another special file"
    if info.flag_bits & 0x1:
        return "encrypted"
    if info.file_size > RATIO_FLOOR and info.file_size > MAX_RATIO * max(1, info.compress_size):
        sizes = f"{info.compress_size:,} bytes inflate to {info.file_size:,}"
        return f"{sizes}: a ratio over {MAX_RATIO}"
    return _nested(_zip_name(info))


def _unsafe_tar(info: tarfile.TarInfo) -> str:
    if info.issym() or info.islnk():
        return "a link"
    if info.issparse():
        return "a sparse file"
    return _nested(_tar_name(info)) if info.isreg() else "a device or another special file"


def _nested(name: bytes) -> str:
    return "an archive within the archive" if is_archive_name(name) else ""


def _zip_name(info: zipfile.ZipInfo) -> bytes:
    """The bytes in the file: cp437 maps all of them, both ways."""
    return info.orig_filename.encode("utf-8" if info.flag_bits & 0x800 else "cp437")


def _tar_name(info: tarfile.TarInfo) -> bytes:
    return info.name.encode("utf-8", "surrogateescape")


def _absent(name: bytes) -> InputError:
    return InputError(Reason.NOT_FOUND, f"the archive has no member {name!r}")


def _check_count(count: int) -> None:
    if count > MAX_MEMBERS:
        raise ValueError(f"more than {MAX_MEMBERS:,} members")


def _decompressed(file: BinaryIO, head: bytes) -> BinaryIO:
    if head.startswith(b"\x1f\x8b"):
        return cast(BinaryIO, gzip.GzipFile(fileobj=file))
    if head.startswith(b"BZh"):
        return cast(BinaryIO, bz2.BZ2File(file))
    if head.startswith(b"\xfd7zXZ\0"):
        return cast(BinaryIO, lzma.LZMAFile(file))
    if head.startswith(b"\x28\xb5\x2f\xfd"):
        raise ValueError("zstd is not read; decompress it, or use gzip, bzip2, xz or zip")
    return file


class _TarHeaders(io.RawIOBase):
    """What tarfile reads headers from; a header that claims to be huge is refused unread."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def read(self, size: int = -1, /) -> bytes:
        if not 0 <= size <= _MAX_TAR_HEADER:
            raise tarfile.ReadError(f"a header of {size:,} bytes; {_MAX_TAR_HEADER:,} are read")
        return self._stream.read(size)

    def seek(self, offset: int, whence: int = 0, /) -> int:
        return self._stream.seek(offset, whence)

    def tell(self) -> int:
        return self._stream.tell()


class _Window(io.RawIOBase):
    """`size` bytes of a stream from `start` on, as a file of its own."""

    def __init__(self, stream: BinaryIO, start: int, size: int) -> None:
        self._stream, self._start, self._size = stream, start, size
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0, /) -> int:
        origin = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = max(0, origin + offset)
        return self._position

    def readinto(self, buffer: bytearray | memoryview, /) -> int:  # type: ignore[override]
        wanted = min(len(buffer), max(0, self._size - self._position))
        self._stream.seek(self._start + self._position)
        data = self._stream.read(wanted)
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)
