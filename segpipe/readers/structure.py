"""What the format readers share: bounded reads of a header, and errors with a reason."""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

from segpipe.errors import InputError, Reason, StoreError
from segpipe.readers.files import refusal

MAX_PARTS = 100_000
"""Chunks, segments or tags that are walked in one file; more are taken for an attack."""

_CUT_SHORT = ("truncat", "too small", "not enough", "unexpected end", "premature", "end of file")


def truncated(what: str) -> InputError:
    return InputError(Reason.TRUNCATED, f"the file ends within {what}")


def corrupt(detail: str) -> InputError:
    return InputError(Reason.CORRUPT, detail)


def take(file: BinaryIO, size: int, what: str) -> bytes:
    """The next `size` bytes.

    Raises:
        InputError: `truncated`, when the file ends before; the message names `what`.
    """
    data = file.read(size)
    if len(data) < size:
        raise truncated(what)
    return data


def bounded(parts: int, what: str) -> None:
    """
    Raises:
        InputError: `corrupt`, when there are more than `MAX_PARTS`.
    """
    if parts > MAX_PARTS:
        raise corrupt(f"more than {MAX_PARTS:,} {what}")


def check_pixels(shape: tuple[int, int], most: int, key: str) -> None:
    """
    Args:
        shape: (height, width) of an image.
        key: of the limit, for people.

    Raises:
        InputError: `corrupt`, when there is no pixel; `too_large`, when there are more than `most`.
    """
    height, width = shape
    if not (height and width):
        raise corrupt(f"a size of {height} x {width} pixels")
    if height * width > most:
        raise InputError(
            Reason.TOO_LARGE,
            f"{height:,} x {width:,} pixels; the limit is {most:,} ({key})",
        )


@contextmanager
def decoder_errors() -> Iterator[None]:
    """Whatever reading or decoding raises becomes an `InputError`, but for storage's own trouble.

    Decoders raise almost any class on hostile input (OSError, ValueError, IndexError, their own),
    so here, and only here, every `Exception` is an expected one.
    """
    try:
        yield
    except (InputError, StoreError):
        raise
    except MemoryError as error:
        raise InputError(Reason.TOO_LARGE, "decoding it needs more memory than there is") from error
    except Exception as error:
        # EINVAL: a seek to where the file's own numbers lead, which is nowhere.
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise refusal(error) from error
        if isinstance(error, NotImplementedError):
            raise InputError(Reason.UNSUPPORTED_FORMAT, str(error)[:300]) from error
        text = f"{type(error).__name__}: {error}"[:300]
        short = isinstance(error, (EOFError, struct.error)) or any(
            word in text.lower() for word in _CUT_SHORT
        )
        raise InputError(Reason.TRUNCATED if short else Reason.CORRUPT, text) from error
