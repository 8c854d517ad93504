"""Writing below an export folder: never outside it, never half a file."""

from __future__ import annotations

import errno
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from segpipe.errors import SpecError
from segpipe.store.disk import Disk

_NAMED = 20
"""Images that a summary names one by one."""

_NO_EXCHANGE = {errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP}
"""What systems that cannot exchange two names answer, such as macOS and NFS."""


@dataclass(frozen=True, slots=True)
class ExportSummary:
    """What an export wrote.

    Attributes:
        out: the folder, or the one file.
        images, objects: written.
        failed: images of the store that have no result, and so are not in the export.
        renamed: files that could not keep the stem of their image; see `Naming`.
        wide: label images with labels above 65,535, written as 32-bit TIFF instead of PNG.
        large: label images of large images, written as 32-bit TIFF of tiles instead of PNG.
        unlisted: path of an image -> why the objects of its label image are not described.
        absent: path of an image -> why its pixels are not in the export, which has its objects.
    """

    out: str
    images: int
    objects: int
    failed: int
    renamed: int = 0
    wide: int = 0
    large: int = 0
    unlisted: Mapping[str, str] = field(default_factory=dict)
    absent: Mapping[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def to_text(self) -> str:
        """For a terminal, free of markup."""
        lines = [f"{self.out}: {self.images:,} images, {self.objects:,} objects"]
        if self.failed:
            lines.append(f"  {self.failed:,} images have no result and are not in it")
        if self.renamed:
            lines.append(f"  {self.renamed:,} files have longer names, since two shared a stem")
        if self.wide:
            lines.append(f"  {self.wide:,} have more than 65,535 labels and are 32-bit TIFF files")
        if self.large:
            lines.append(f"  {self.large:,} are of large images and are 32-bit TIFF files of tiles")
        lines += [f"  {path}: {why}" for path, why in islice(self.unlisted.items(), _NAMED)]
        if len(self.unlisted) > _NAMED:
            lines.append(f"  so it is with {len(self.unlisted) - _NAMED:,} other images")
        for path, why in islice(self.absent.items(), _NAMED):
            lines.append(f"  pixels of {path} are not in it: {why}")
        if len(self.absent) > _NAMED:
            lines.append(f"  pixels of {len(self.absent) - _NAMED:,} other images are not in it")
        return "\n".join(lines)


def write_below(out: Path, relative: PurePosixPath, write: Callable[[BinaryIO], None]) -> None:
    """Write a file below `out` as a whole or not at all; an existing one is replaced.

    Raises:
        SpecError: it cannot be written, or a link below `out` leads out of it.
    """
    with _partial_below(out, relative) as (target, partial):
        try:
            with partial.open("xb") as file:
                write(file)
            partial.replace(target)
        finally:
            partial.unlink(missing_ok=True)


def write_folder_below(
    out: Path, relative: PurePosixPath, write: Callable[[Path], None], disk: Disk | None = None
) -> None:
    """Write a folder below `out` as a whole or not at all; an existing one is replaced.

    A process that is killed at any moment leaves the old folder or the new one under the name.
    Where the file system cannot exchange two names there is a moment with neither: the old one is
    then called `.NAME.old`, and gets its name back by the next call for that name.

    Args:
        write: makes the folder that it is given, which is not there yet.
        disk: for tests.

    Raises:
        SpecError: it cannot be written, a file has its name, or a link below `out` leads out of it.
    """
    disk = disk or Disk()
    with _partial_below(out, relative) as (target, partial):
        if target.is_symlink():
            raise SpecError(f"{target} leads out of {out}; remove that link first")
        old = target.with_name(f".{target.name}.old")
        if old.exists():
            if target.exists():
                disk.remove_folder(old)
            else:
                disk.rename(old, target)
        try:
            write(partial)
            if target.exists():
                _replace_folder(disk, partial, target, old)
            else:
                disk.rename(partial, target)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def _replace_folder(disk: Disk, new: Path, target: Path, old: Path) -> None:
    """The folder `new` gets the name of `target`; the replaced one is removed, or is at `new`."""
    if not target.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, "a file has the name of a folder; move it away")
    try:
        disk.exchange(new, target)
    except OSError as error:
        if error.errno not in _NO_EXCHANGE:
            raise
        disk.rename(target, old)
        disk.rename(new, target)
        disk.remove_folder(old)


@contextmanager
def _partial_below(out: Path, relative: PurePosixPath) -> Iterator[tuple[Path, Path]]:
    """A path below `out`, and a name beside it for what is not whole yet."""
    target = out / relative
    try:
        if not target.parent.resolve().is_relative_to(out.resolve()):
            raise SpecError(f"{target.parent} leads out of {out}; remove that link first")
        target.parent.mkdir(parents=True, exist_ok=True)
        yield target, target.with_name(f".{uuid.uuid4().hex}.partial")
    except OSError as error:
        raise SpecError(f"{target}: not written: {error}") from error
