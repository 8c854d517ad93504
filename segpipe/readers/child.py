"""The process that `isolated` starts: decodes what it is sent, until its parent is gone.

A question is 8 bytes of length (big endian) and an address in JSON, or nothing; then in the same
way the bytes of a file, or nothing where the address is a folder. An answer is a line of JSON,
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
from segpipe.readers.decode import Decoded, decode, inspect, memory_budget, stop_after
from segpipe.readers.isolated import LENGTH_BYTES, READY
from segpipe.readers.structure import decoder_errors
from segpipe.readers.watchdog import Watchdog
from segpipe.readers.whole_plane import Address, decode_plane, open_address
from segpipe.spec import Limits


def main() -> None:
    limits = Limits.model_validate_json(sys.argv[1])
    questions, answers = _streams()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a crash is told, not kept
    watchdog = Watchdog()
    answers.write(READY)
    answers.flush()
    while (question := _question(questions)) is not None:
        # The parent stops what hangs; this is for a child that has lost its parent.
        with watchdog.watch(2 * stop_after(limits)):
            _answer(*question, limits, answers)
            answers.flush()


def _streams() -> tuple[BinaryIO, BinaryIO]:
    """The two pipes, out of reach of libraries that print: stdout becomes stderr."""
    questions, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return questions, answers


def _question(questions: BinaryIO) -> tuple[Address | None, bytes] | None:
    """(what of it, the bytes of a file); None when the parent is gone."""
    address = _part(questions)
    data = _part(questions)
    if address is None or data is None:
        return None
    return Address.from_json(address) if address else None, data


def _part(questions: BinaryIO) -> bytes | None:
    head = questions.read(LENGTH_BYTES)
    size = int.from_bytes(head, "big")
    data = questions.read(size) if len(head) == LENGTH_BYTES else b""
    return data if head and len(data) == size else None


def _answer(address: Address | None, data: bytes, limits: Limits, answers: BinaryIO) -> None:
    try:
        if address is None:
            header = inspect(io.BytesIO(data), len(data), limits)
            with _memory(memory_budget(header, len(data))):
                decoded = decode(data, limits)
        else:
            decoded = _decoded_plane(address, data, limits)
    except InputError as error:
        _say(answers, reason=error.reason, detail=error.detail)
    except MemoryError:  # while an error was being told
        _say(answers, reason=Reason.TOO_LARGE, detail="decoding it needs more memory than allowed")
    else:
        _say(answers, n_nonfinite=decoded.n_nonfinite)
        answers.write(decoded.pixels.data)


def _decoded_plane(address: Address, data: bytes, limits: Limits) -> Decoded:
    with (
        decoder_errors(),
        open_address(data, address, limits) as source,
        _memory(memory_budget(source.header, len(data)) + source.held_bytes),
    ):
        return decode_plane(source)


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
