"""Storage that fails on purpose: the seam, wrapped."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from segpipe.store.files import LocalFiles


class FaultyFiles(LocalFiles):
    """Calls `fault(operation, path)` before and after every operation that changes the store."""

    def __init__(self, root: Path, fault: Callable[[str, str], None]) -> None:
        super().__init__(root)
        self._fault = fault

    def write(self, path: str, data: bytes) -> None:
        self._fault("write", path)
        # Half the bytes, as a kill in the middle of a write leaves them.
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data[: len(data) // 2])
        self._fault("half-written", path)
        target.unlink()
        super().write(path, data)
        self._fault("written", path)

    def create(self, path: str, data: bytes) -> bool:
        self._fault("create", path)
        created = super().create(path, data)
        self._fault("created", path)
        return created

    @contextlib.contextmanager
    def stream(self, path: str) -> Iterator[BinaryIO]:
        self._fault("stream", path)
        with super().stream(path) as file:
            yield file
            self._fault("streamed", path)

    def publish(self, source: str, target: str) -> None:
        self._fault("publish", target)
        super().publish(source, target)
        self._fault("published", target)

    def remove_folder(self, path: str) -> None:
        self._fault("remove", path)
        super().remove_folder(path)

    def sync(self, folders: Iterable[str]) -> None:
        self._fault("sync", "")
        super().sync(folders)


class KillAt:
    """SIGKILL to this very process at the k-th call."""

    def __init__(self, k: int) -> None:
        self._left = k

    def __call__(self, operation: str, path: str) -> None:
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        self._left -= 1


class FailAt:
    """An OSError at the k-th call, once."""

    def __init__(self, k: int, number: int) -> None:
        self._left = k
        self._number = number
        self.happened = False

    def __call__(self, operation: str, path: str) -> None:
        if self._left == 0:
            self.happened = True
            self._left = -1
            raise OSError(self._number, os.strerror(self._number), path)
        self._left -= 1
