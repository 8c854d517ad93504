"""The time that one image may take, enforced from inside: a thread cannot be stopped."""

from __future__ import annotations

import io
import time

from segpipe.errors import InputError, Reason


class Deadline:
    """`seconds` from its construction on; decoders call `check` between bounded pieces of work."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._end = time.monotonic() + seconds

    def check(self) -> None:
        """
        Raises:
            InputError: `time_limit`, when the time has passed.
        """
        if time.monotonic() > self._end:
            raise InputError(
                Reason.TIME_LIMIT, f"not decoded after {self._seconds:g} s (limits.decode_seconds)"
            )


class TimedBytes(io.BytesIO):
    """A file in memory whose `read` looks at the clock; decoders that pull blocks stop there."""

    def __init__(self, data: bytes, deadline: Deadline) -> None:
        super().__init__(data)
        self._deadline = deadline

    def read(self, size: int | None = -1, /) -> bytes:
        self._deadline.check()
        return super().read(size)
