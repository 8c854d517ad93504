"""Storage that fails on purpose: every system call of a store, wrapped."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from segpipe.store.disk import Disk
from segpipe.store.files import LocalFiles

Fault = Callable[[str, str], None]


class FaultyDisk(Disk):
    """Calls `fault(moment, path)` before, after and in the middle of every change."""

    def __init__(self, fault: Fault) -> None:
        self._fault = fault

    def make_folder(self, path: Path) -> None:
        if not path.is_dir():
            self._around("make folder", path, super().make_folder, path)

    def write(self, path: Path, data: bytes) -> None:
        self._fault("write", str(path))
        # Half the bytes, as a kill in the middle leaves them.
        path.write_bytes(data[: len(data) // 2])
        self._fault("half-written", str(path))
        path.unlink()
        super().write(path, data)
        self._fault("after write", str(path))

    def overwrite(self, path: Path, data: bytes) -> None:
        self._fault("overwrite", str(path))
        super().overwrite(path, data[: len(data) // 2])
        self._fault("half-overwritten", str(path))
        super().overwrite(path, data)
        self._fault("after overwrite", str(path))

    def sync_file(self, file: BinaryIO) -> None:
        self._fault("sync file", str(file.name))
        super().sync_file(file)
        self._fault("after sync file", str(file.name))

    def link(self, source: Path, target: Path) -> None:
        self._around("link", target, super().link, source, target)

    def rename_new(self, source: Path, target: Path) -> None:
        self._around("rename new", target, super().rename_new, source, target)

    def rename(self, source: Path, target: Path) -> None:
        self._around("rename", target, super().rename, source, target)

    def exchange(self, one: Path, other: Path) -> None:
        self._around("exchange", other, super().exchange, one, other)

    def remove(self, path: Path) -> None:
        self._around("remove", path, super().remove, path)

    def remove_folder(self, path: Path) -> None:
        """File by file: a kill may leave any of them."""
        for inner in sorted(path.rglob("*"), key=lambda p: len(p.parts), reverse=True):
            self._fault("remove", str(inner))
            if not inner.is_dir():
                inner.unlink(missing_ok=True)
        self._around("remove folder", path, super().remove_folder, path)

    def sync_folder(self, path: Path) -> None:
        self._around("sync", path, super().sync_folder, path)

    def _around(self, name: str, path: Path, call: Callable[..., None], *arguments: Path) -> None:
        self._fault(name, str(path))
        call(*arguments)
        self._fault(f"after {name}", str(path))


def faulty(root: Path, fault: Fault) -> LocalFiles:
    """The store at `root`, through a disk with this fault."""
    return LocalFiles(root, FaultyDisk(fault))


class KillAt:
    """SIGKILL to this very process at the k-th call."""

    def __init__(self, k: int, number: int = signal.SIGKILL) -> None:
        self._left = k
        self._number = number

    def __call__(self, moment: str, path: str) -> None:
        if self._left == 0:
            os.kill(os.getpid(), self._number)
        self._left -= 1


class FailAt:
    """An OSError at the k-th call, once."""

    def __init__(self, k: int, number: int) -> None:
        self._left = k
        self._number = number
        self.happened = False

    def __call__(self, moment: str, path: str) -> None:
        if self._left == 0:
            self.happened = True
            self._left = -1
            raise OSError(self._number, os.strerror(self._number), path)
        self._left -= 1


class Killed(BaseException):
    """The process would be dead now."""


class DeadAt:
    """From the k-th call on nothing happens any more, cleaning up included: a kill, in process."""

    def __init__(self, k: int) -> None:
        self._left = k

    def __call__(self, moment: str, path: str) -> None:
        if self._left <= 0:
            raise Killed
        self._left -= 1
