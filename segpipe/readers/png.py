"""PNG (W3C, third edition), decoded by libpng through imagecodecs.

Unlike Pillow this keeps 16-bit colour, and it is faster. The decoder is given only the chunks
that make pixels: text and profiles that inflate without end never reach it.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np

from segpipe.readers import exif
from segpipe.readers.convert import Samples, upright_shape
from segpipe.readers.deadline import Deadline
from segpipe.readers.structure import bounded, corrupt, take, truncated
from segpipe.records import Header

SIGNATURES = (b"\x89PNG\r\n\x1a\n",)

_CHANNELS = {0: 1, 2: 3, 3: 3, 4: 1, 6: 3}
"""Colour type -> channels without alpha; a palette (3) becomes RGB."""
_SAMPLES = {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}
"""Colour type -> samples of a decoded pixel, alpha included."""
_PIXEL_CHUNKS = {b"IHDR", b"PLTE", b"IDAT", b"IEND"}
"""Without tRNS: a transparent colour stays that colour."""
_FRAMING = 12
"""Bytes of a chunk besides its payload: length, type, checksum."""
_MAX_EXIF = 1 << 20


def inspect(file: BinaryIO, size: int) -> Header:
    """Header from a walk over all chunks (EXIF may follow the pixels); payloads are skipped."""
    orientation = n_frames = 1
    ihdr = b""
    for name, start, length in _chunks(file, size):
        if name == b"IHDR":
            file.seek(start)
            ihdr = take(file, length, "its header")
        elif name == b"acTL" and length == 8:
            file.seek(start)
            n_frames = max(1, int.from_bytes(take(file, 4, "its animation control"), "big"))
        elif name == b"eXIf" and length <= _MAX_EXIF:
            file.seek(start)
            orientation = exif.orientation(take(file, length, "its EXIF chunk"))
    return _header(ihdr, orientation, n_frames)


def decode(data: bytes, header: Header, deadline: Deadline) -> Samples:  # noqa: ARG001
    """(H, W), or (H, W, 3), uint8 or uint16 as stored; alpha is left out.

    The work is bounded by the pixels, which were checked, so the deadline is not looked at.
    """
    import imagecodecs

    view = memoryview(data)
    parts: list[bytes | memoryview] = [data[:8]]
    ihdr = b""
    for name, start, length in _chunks(io.BytesIO(data), len(data)):
        if name in _PIXEL_CHUNKS:
            parts.append(view[start - 8 : start + length + 4])
        if name == b"IHDR":
            ihdr = data[start : start + length]
    samples: Samples = np.empty(_stored_shape(ihdr), header.dtype)
    try:
        imagecodecs.png_decode(b"".join(parts), out=samples)
    except Exception:
        # Where libpng gives up, imagecodecs 2026.3 never lets go of the array: leave it nothing.
        samples.resize(0, refcheck=False)
        raise
    if samples.ndim == 2:
        return samples
    return samples[:, :, 0] if header.channels == 1 else samples[:, :, :3]


def _stored_shape(ihdr: bytes) -> tuple[int, ...]:
    """(H, W) or (H, W, samples) as libpng decodes it."""
    width, height = int.from_bytes(ihdr[:4], "big"), int.from_bytes(ihdr[4:8], "big")
    samples = _SAMPLES[ihdr[9]]
    return (height, width) if samples == 1 else (height, width, samples)


def _chunks(file: BinaryIO, size: int) -> Iterator[tuple[bytes, int, int]]:
    """(type, position, length) of the payload of each chunk, to the last one."""
    position = 8
    parts = 0
    while True:
        bounded(parts := parts + 1, "chunks")
        file.seek(position)
        head = take(file, 8, "its chunks (no IEND)")
        length, name = int.from_bytes(head[:4], "big"), head[4:]
        if position + _FRAMING + length > size:
            raise truncated(f"its chunk {name!r}")
        yield name, position + 8, length
        if name == b"IEND":
            return
        position += _FRAMING + length


def _header(ihdr: bytes, orientation: int, n_frames: int) -> Header:
    import imagecodecs

    if len(ihdr) != 13 or ihdr[9] not in _CHANNELS:
        raise corrupt(f"IHDR of {len(ihdr)} bytes" if len(ihdr) != 13 else f"colour type {ihdr[9]}")
    width, height = int.from_bytes(ihdr[:4], "big"), int.from_bytes(ihdr[4:8], "big")
    height, width = upright_shape(height, width, orientation)
    return Header(
        height,
        width,
        channels=_CHANNELS[ihdr[9]],
        dtype="uint16" if ihdr[8] == 16 else "uint8",
        format="png",
        decoder=f"imagecodecs {imagecodecs.__version__}",
        orientation=orientation,
        n_frames=n_frames,
    )
