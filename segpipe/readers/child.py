"""The process that `isolated` starts: decodes what it is sent, until its parent is gone.

A question is 8 bytes of length (big endian) and the bytes of a file. An answer is a line of JSON,
`{"n_nonfinite": 0}` with the pixels behind it or `{"reason": ..., "detail": ...}` alone.
"""

from __future__ import annotations

import io
import json
import os
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

# Loaded before the first question, so that no image pays for them, with its time or its memory.
import imagecodecs  # noqa: F401
import tifffile  # noqa: F401

from segpipe.errors import InputError, Reason
from segpipe.readers.decode import decode, inspect, memory_budget, stop_after
from segpipe.readers.isolated import LENGTH_BYTES, READY
from segpipe.readers.watchdog import Watchdog
from segpipe.spec import Limits


def main() -> None:
    limits = Limits.model_validate_json(sys.argv[1])
    questions, answers = _streams()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a crash is told, not kept
    watchdog = Watchdog()
    answers.write(READY)
    answers.flush()
    while (data := _question(questions)) is not None:
        # The parent stops what hangs; this is for a child that has lost its parent.
        with watchdog.watch(2 * stop_after(limits)):
            _answer(data, limits, answers)
            answers.flush()


def _streams() -> tuple[BinaryIO, BinaryIO]:
    """The two pipes, out of reach of libraries that print: stdout becomes stderr."""
    questions, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return questions, answers


def _question(questions: BinaryIO) -> bytes | None:
    """The bytes of a file; None when the parent is gone."""
    head = questions.read(LENGTH_BYTES)
    size = int.from_bytes(head, "big")
    data = questions.read(size) if len(head) == LENGTH_BYTES else b""
    return data if head and len(data) == size else None


def _answer(data: bytes, limits: Limits, answers: BinaryIO) -> None:
    try:
        header = inspect(io.BytesIO(data), len(data), limits)
        with _memory(memory_budget(header, len(data))):
            decoded = decode(data, limits)
    except InputError as error:
        _say(answers, reason=error.reason, detail=error.detail)
    except MemoryError:  # while an error was being told
        _say(answers, reason=Reason.TOO_LARGE, detail="decoding it needs more memory than allowed")
    else:
        _say(answers, n_nonfinite=decoded.n_nonfinite)
        answers.write(decoded.pixels.data)


def _say(answers: BinaryIO, **content: object) -> None:
    answers.write(json.dumps(content).encode() + b"\n")


@contextmanager
def _memory(budget: int) -> Iterator[None]:
    """Let this process grow by `budget` bytes of address space and no further."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (_address_space() + budget, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def _address_space() -> int:
    """Bytes in use now."""
    with open("/proc/self/statm", "rb") as file:  # noqa: PTH123 - one line of the kernel's
        return int(file.read().split()[0]) * resource.getpagesize()


if __name__ == "__main__":
    main()
