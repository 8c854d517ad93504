"""One open file that several threads read from."""

from __future__ import annotations

import io
import os
import threading
from typing import BinaryIO


class SharedFile:
    """Reads at positions; a file of the system without waiting for others, all else in turn.

    Attributes:
        file: for whoever wants a file, while no other thread has this one yet.
        size: bytes.
    """

    def __init__(self, file: BinaryIO, size: int) -> None:
        self.file, self.size = file, size
        self._lock = threading.Lock()
        try:
            self._descriptor: int | None = file.fileno()
        except (OSError, io.UnsupportedOperation, AttributeError):
            self._descriptor = None

    def read(self, offset: int, length: int) -> bytes:
        """The bytes there; fewer where the file ends."""
        if not 0 <= offset <= self.size:
            return b""
        length = min(length, self.size - offset)
        if self._descriptor is None:
            with self._lock:
                self.file.seek(offset)
                return self.file.read(length)
        parts = []
        while length > 0 and (part := os.pread(self._descriptor, length, offset)):
            parts.append(part)
            offset, length = offset + len(part), length - len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def close(self) -> None:
        self.file.close()
