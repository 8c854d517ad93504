"""Files of the file system: opened without waiting, and what stands in the way of it, by reason."""

from __future__ import annotations

import errno
import os
import stat
from typing import BinaryIO

from segpipe.errors import InputError, Reason
from segpipe.readers.names import file_uri
from segpipe.records import ImageRef

_REASONS = {
    errno.ENOENT: Reason.NOT_FOUND,
    errno.ENOTDIR: Reason.NOT_FOUND,
    errno.EACCES: Reason.NO_PERMISSION,
    errno.EPERM: Reason.NO_PERMISSION,
    errno.EISDIR: Reason.NOT_A_FILE,
    errno.ENXIO: Reason.NOT_A_FILE,
    errno.ENODEV: Reason.NOT_A_FILE,
}

_EXHAUSTED = {errno.EMFILE, errno.ENFILE, errno.ENOMEM}
"""The process or the machine has no more of something; that says nothing of the file."""

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def refusal(error: OSError | ValueError) -> InputError:
    """The error of a system call as a reason; a ValueError is a name that no file can have.

    Raises:
        OSError: the same, where it is not the file's fault: another time it may go well.
    """
    if isinstance(error, OSError):
        if error.errno in _EXHAUSTED:
            raise error
        reason = _REASONS.get(error.errno or 0, Reason.READ_ERROR)
        return InputError(reason, error.strerror or type(error).__name__)
    return InputError(Reason.NOT_FOUND, f"no file can have this name: {error}")


def open_file(path: str) -> tuple[BinaryIO, os.stat_result]:
    """Open a regular file for reading; a FIFO or a device is refused and not waited for.

    Raises:
        InputError: with the reason it cannot be opened.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except (OSError, ValueError) as error:
        raise refusal(error) from error
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode):
        os.close(descriptor)
        raise InputError(Reason.NOT_A_FILE, _kind(found.st_mode))
    return os.fdopen(descriptor, "rb"), found


def file_ref(path: str, shown: str, uri: str | None = None) -> ImageRef:
    """The file at `path` as a member of a collection, refused where it cannot be read.

    Args:
        uri: of the path, where it is known already.
    """
    uri = uri or file_uri(path)
    size, mtime_ns = 0, 0
    try:
        found = os.stat(path)  # noqa: PTH116 - one call per image, on a string
        size, mtime_ns = found.st_size, found.st_mtime_ns
        if not stat.S_ISREG(found.st_mode):
            raise InputError(Reason.NOT_A_FILE, _kind(found.st_mode))
        if not os.access(path, os.R_OK, effective_ids=True):
            raise InputError(Reason.NO_PERMISSION, "Permission denied")
    except (OSError, ValueError, InputError) as error:
        problem = error if isinstance(error, InputError) else refusal(error)
        detail = problem.detail
        if problem.reason is Reason.NOT_FOUND and _is_link(path):
            detail = "a link to something that is not there"
        return ImageRef(uri, shown, size, mtime_ns, problem.reason, detail)
    return ImageRef(uri, shown, size, mtime_ns)


def _is_link(path: str) -> bool:
    try:
        return stat.S_ISLNK(os.lstat(path).st_mode)
    except (OSError, ValueError):
        return False


def _kind(mode: int) -> str:
    return f"{_KINDS.get(stat.S_IFMT(mode), 'something else')}, not a file"
