"""The system calls that a store on a file system is made of, one method each.

`LocalFiles` is written in these words alone, so that a test can kill, fail, record or reorder
every one of them.
"""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
from pathlib import Path
from typing import BinaryIO

NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}
"""What file systems without hard links answer to `link`."""

_AT_FDCWD = -100
_RENAME_NOREPLACE = 1
_RENAME_EXCHANGE = 2


class Disk:
    """Folders and files of the operating system; every method may raise `OSError`."""

    def make_folder(self, path: Path) -> None:
        """The folder and those above it; nothing happens if it is there."""
        path.mkdir(parents=True, exist_ok=True)

    def write(self, path: Path, data: bytes) -> None:
        """A new file with these bytes on stable storage; its name is not."""
        with path.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())

    def overwrite(self, path: Path, data: bytes) -> None:
        """New bytes, on stable storage, in a file that must be there."""
        with path.open("r+b") as file:
            file.truncate()
            file.write(data)
            file.flush()
            os.fsync(file.fileno())

    def sync_file(self, file: BinaryIO) -> None:
        """What was written to an open file so far is on stable storage."""
        file.flush()
        os.fsync(file.fileno())

    def link(self, source: Path, target: Path) -> None:
        """A second name for a file; `FileExistsError` if the name is in use."""
        os.link(source, target)

    def rename_new(self, source: Path, target: Path) -> None:
        """Another name for a file; `FileExistsError` if the name is in use (Linux only)."""
        _renameat2(source, target, _RENAME_NOREPLACE)

    def rename(self, source: Path, target: Path) -> None:
        """Another name for a file, in place of what had the name."""
        source.replace(target)

    def exchange(self, one: Path, other: Path) -> None:
        """Each gets the name of the other, at once; both must be there (Linux only)."""
        _renameat2(one, other, _RENAME_EXCHANGE)

    def remove(self, path: Path) -> None:
        path.unlink()

    def remove_folder(self, path: Path) -> None:
        shutil.rmtree(path)

    def sync_folder(self, path: Path) -> None:
        """The names in the folder are on stable storage."""
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _renameat2(source: Path, target: Path, flags: int) -> None:
    library = ctypes.CDLL(None, use_errno=True)
    if not hasattr(library, "renameat2"):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS), str(source), None, str(target))
    names = os.fsencode(source), os.fsencode(target)
    if library.renameat2(_AT_FDCWD, names[0], _AT_FDCWD, names[1], flags):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(source), None, str(target))
