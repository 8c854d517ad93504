"""From the bytes of a file to pixels, within limits; where this runs is the caller's choice.

The same function decodes in the worker (`Reader`), under a watchdog there (`watchdog`), and in a
process of its own (`isolated`, `child`).
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np

from segpipe.readers.convert import as_pixels
from segpipe.readers.deadline import Deadline
from segpipe.readers.formats import PREFIX_BYTES, sniff
from segpipe.readers.structure import check_pixels, corrupt, decoder_errors
from segpipe.records import Header, Pixels
from segpipe.spec import Limits

_ROOM = 256 << 20
"""Bytes for what does not grow with the image: buffers, windows, a tile larger than its image."""
_COPIES_OF_FILE = 6
_COPIES_OF_PIXELS = 16
"""Twice what was measured: 3 times the file (a plain PNM), 8 times the pixels (a CMYK TIFF)."""


@dataclass(frozen=True, slots=True, eq=False)
class Decoded:
    """The first frame of a file; the attributes are those of `records.DecodedImage`."""

    header: Header
    pixels: Pixels
    n_nonfinite: int


def inspect(file: BinaryIO, size: int, limits: Limits) -> Header:
    """What the file says of itself; no pixel is read, whatever the header claims.

    Raises:
        InputError: it is not an image of a kind that is read, damaged, or over `max_pixels`.
    """
    with decoder_errors():
        kind = sniff(file.read(PREFIX_BYTES))
        file.seek(0)
        header = kind.inspect(file, size)
    check_pixels(header.shape, limits.max_pixels, "limits.max_pixels")
    return header


def decode(data: bytes, limits: Limits) -> Decoded:
    """The first frame, upright, by the table in `segpipe.readers.convert`.

    Raises:
        InputError: as `inspect`; or truncated, corrupt, or over `decode_seconds`, as far as a
            decoder gives the clock a chance.
    """
    deadline = Deadline(limits.decode_seconds)
    header = inspect(io.BytesIO(data), len(data), limits)
    with decoder_errors():
        samples = sniff(data[:PREFIX_BYTES]).decode(data, header, deadline)
        pixels, n_nonfinite = as_pixels(samples, header.orientation)
    deadline.check()
    if pixels.shape != (*header.shape, header.channels) or pixels.dtype.name != header.dtype:
        raise corrupt(
            f"the header says {header.shape} x {header.channels} {header.dtype},"
            f" the pixels are {pixels.shape} {pixels.dtype}"
        )
    return Decoded(header, pixels, n_nonfinite)


def stop_after(limits: Limits) -> float:
    """Seconds after which a decoder that has not looked at the clock itself is stopped by force."""
    return 1.25 * limits.decode_seconds + 1.0


def pixel_bytes(header: Header) -> int:
    """Size of the pixels that `decode` returns."""
    return header.height * header.width * header.channels * np.dtype(header.dtype).itemsize


def memory_budget(header: Header, file_bytes: int) -> int:
    """Bytes that decoding one image may take at its peak, the file and the pixels included."""
    return _ROOM + _COPIES_OF_FILE * file_bytes + _COPIES_OF_PIXELS * pixel_bytes(header)
