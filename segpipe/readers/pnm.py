"""PBM, PGM and PPM (Netpbm), binary and plain, decoded here: Pillow reduces 16-bit PPM to 8 bits.

Samples are kept as stored, not scaled by the file's maximum value.
"""

from __future__ import annotations

import io
import math
import re
from typing import BinaryIO

import numpy as np

from segpipe.readers.convert import Samples, full_range
from segpipe.readers.deadline import Deadline
from segpipe.readers.structure import corrupt, truncated
from segpipe.records import Header

SIGNATURES = tuple(b"P%d%c" % (kind, space) for kind in range(1, 7) for space in b" \t\r\n#")

_HEADER_BYTES = 64 << 10
_TOKEN = re.compile(rb"(?:\s|#[^\r\n]*[\r\n])*([0-9]{1,10})(?=[\s#])")
_BITMAPS, _COLOURS, _BINARY = (1, 4), (3, 6), (4, 5, 6)


def inspect(file: BinaryIO, size: int) -> Header:  # noqa: ARG001 - one signature for all formats
    """Header from the first 64 KiB, comments included."""
    file.seek(0)
    return _parse(file.read(_HEADER_BYTES))[0]


def decode(data: bytes, header: Header, deadline: Deadline) -> Samples:
    """(H, W) or (H, W, 3), uint8 or uint16; for a bitmap 0 (black) and 255.

    The work is bounded by the pixels and by the file's size, which were checked; the deadline is
    looked at where comments are taken out, line by line.
    """
    _, kind, start = _parse(data[:_HEADER_BYTES])
    shape = header.shape if header.channels == 1 else (*header.shape, header.channels)
    if kind == 4:
        return _bitmap(data, start, header)
    if kind in _BINARY:
        dtype = np.dtype(header.dtype).newbyteorder(">")
        count = math.prod(shape)
        if len(data) - start < count * dtype.itemsize:
            raise truncated("its pixels")
        return np.frombuffer(data, dtype, count, start).reshape(shape)
    text = _without_comments(data[start:], deadline)
    return _plain_bitmap(text, header) if kind == 1 else _plain(text, header, shape)


def _parse(data: bytes) -> tuple[Header, int, int]:
    """(header, kind 1 to 6, where the raster starts)."""
    kind = int(data[1:2])
    values: list[int] = []
    position = 2
    for _ in range(2 if kind in _BITMAPS else 3):
        match = _TOKEN.match(data, position)
        if match is None:
            raise truncated("its header") if len(data) < 32 else corrupt("no size in its header")
        values.append(int(match[1]))
        position = match.end()
    maximum = 255 if kind in _BITMAPS else values[2]
    if not 0 < maximum < 65536:
        raise corrupt(f"maximum value {maximum}; 1 to 65535 are allowed")
    header = Header(
        height=values[1],
        width=values[0],
        channels=3 if kind in _COLOURS else 1,
        dtype="uint8" if maximum < 256 else "uint16",
        format="pnm",
        decoder=f"numpy {np.__version__}",
    )
    return header, kind, position + 1


def _without_comments(text: bytes, deadline: Deadline) -> bytes:
    """Line by line: a regular expression would hold every piece between two comments at once."""
    if b"#" not in text:
        return text
    kept = io.BytesIO()
    for line in io.BytesIO(text.replace(b"\r", b"\n")):
        deadline.check()
        kept.write(line.partition(b"#")[0] + b" ")
    return kept.getvalue()


def _bitmap(data: bytes, start: int, header: Header) -> Samples:
    row = (header.width + 7) // 8
    if len(data) - start < row * header.height:
        raise truncated("its pixels")
    packed = np.frombuffer(data, np.uint8, row * header.height, start).reshape(header.height, row)
    ink = np.unpackbits(packed, axis=1, count=header.width)
    return full_range(1 - ink, bits=1)


def _plain_bitmap(text: bytes, header: Header) -> Samples:
    digits = np.frombuffer(text, np.uint8)
    ink = digits[(digits == ord("0")) | (digits == ord("1"))]
    if ink.size < header.height * header.width:
        raise truncated("its pixels")
    ink = ink[: header.height * header.width].reshape(header.shape)
    return full_range(ord("1") - ink, bits=1)


def _plain(text: bytes, header: Header, shape: tuple[int, ...]) -> Samples:
    try:
        values = np.fromstring(text, dtype=np.int64, count=math.prod(shape), sep=" ")
    except ValueError:
        raise truncated("its pixels") from None
    if int(values.min()) < 0 or int(values.max()) > np.iinfo(header.dtype).max:
        raise corrupt("a sample outside of the declared range")
    return values.astype(header.dtype).reshape(shape)
