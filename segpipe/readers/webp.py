"""WebP (RFC 9649), decoded by libwebp through imagecodecs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

from segpipe.errors import InputError, Reason
from segpipe.readers import exif
from segpipe.readers.convert import Samples, upright_shape
from segpipe.readers.deadline import Deadline
from segpipe.readers.structure import bounded, corrupt, take, truncated
from segpipe.records import Header

SIGNATURES = (b"RIFF",)
"""Of every RIFF file; `inspect` looks at the kind."""

_MAX_EXIF = 1 << 20


def inspect(file: BinaryIO, size: int) -> Header:
    """Header from a walk over the RIFF chunks; pixels are skipped."""
    import imagecodecs

    orientation, n_frames = 1, 0
    canvas: tuple[int, int] | None = None
    still: tuple[int, int] | None = None
    for name, start, length in _chunks(file, size):
        file.seek(start)
        if name == b"VP8X":
            canvas = _canvas(take(file, 10, "its header"))
        elif name == b"VP8 ":
            still = _lossy_size(take(file, 10, "its image"))
        elif name == b"VP8L":
            still = _lossless_size(take(file, 5, "its image"))
        elif name == b"ANMF":
            n_frames += 1
        elif name == b"EXIF" and length <= _MAX_EXIF:
            orientation = exif.orientation(take(file, length, "its EXIF chunk"))
    shape = canvas or still
    if shape is None or (still is None and n_frames == 0):
        raise corrupt("no image in the WebP container")
    if still is not None and still != shape:
        raise corrupt(f"image of {still} in a canvas of {shape}")
    height, width = upright_shape(*shape, orientation)
    decoder = f"imagecodecs {imagecodecs.__version__}"
    return Header(height, width, 3, "uint8", "webp", decoder, orientation, max(1, n_frames))


def decode(data: bytes, header: Header, deadline: Deadline) -> Samples:  # noqa: ARG001
    """(H, W, 3) uint8: the first frame, alpha left out.

    The work is bounded by the pixels, which were checked, so the deadline is not looked at.
    """
    import imagecodecs

    samples: Samples = imagecodecs.webp_decode(data, index=0)
    return samples[:, :, :3]


def _chunks(file: BinaryIO, size: int) -> Iterator[tuple[bytes, int, int]]:
    """(type, position, length) of the payload of each RIFF chunk."""
    file.seek(4)
    end = 8 + int.from_bytes(take(file, 4, "its header"), "little")
    kind = take(file, 4, "its header")
    if kind != b"WEBP":
        raise InputError(Reason.UNSUPPORTED_FORMAT, f"a RIFF file of kind {kind!r}, not WebP")
    if end > size:
        raise truncated(f"its RIFF container ({size:,} of {end:,} bytes)")
    position = 12
    parts = 0
    while position + 8 <= end:
        bounded(parts := parts + 1, "chunks")
        file.seek(position)
        head = take(file, 8, "its chunks")
        length = int.from_bytes(head[4:], "little")
        if position + 8 + length > end:
            raise truncated(f"its chunk {head[:4]!r}")
        yield head[:4], position + 8, length
        position += 8 + length + length % 2  # chunks are padded to even sizes


def _canvas(payload: bytes) -> tuple[int, int]:
    width = 1 + int.from_bytes(payload[4:7], "little")
    return 1 + int.from_bytes(payload[7:10], "little"), width


def _lossy_size(frame: bytes) -> tuple[int, int]:
    if frame[3:6] != b"\x9d\x01\x2a":
        raise corrupt("its VP8 frame has no start code")
    width = int.from_bytes(frame[6:8], "little") & 0x3FFF
    return int.from_bytes(frame[8:10], "little") & 0x3FFF, width


def _lossless_size(frame: bytes) -> tuple[int, int]:
    if frame[0] != 0x2F:
        raise corrupt("its VP8L frame has no signature")
    bits = int.from_bytes(frame[1:5], "little")
    return 1 + (bits >> 14 & 0x3FFF), 1 + (bits & 0x3FFF)
