"""JPEG (ITU-T T.81), decoded by Pillow.

Pillow pulls its input block by block, so a deadline can stop it, and it refuses a file that ends
early, where other decoders paint the rest grey. What no decoder tells is a hole inside a file
that is otherwise complete: JPEG has no checksum.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np
import PIL
from PIL import JpegImagePlugin

from segpipe.errors import InputError, Reason
from segpipe.readers import exif
from segpipe.readers.convert import Samples, check_channels, upright_shape
from segpipe.readers.deadline import Deadline, TimedBytes
from segpipe.readers.structure import bounded, corrupt, take
from segpipe.records import Header

SIGNATURES = (b"\xff\xd8\xff",)

_SOS, _EOI, _APP1 = 0xDA, 0xD9, 0xE1
_STANDALONE = {0x01, *range(0xD0, 0xD9)}
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_READABLE_FRAMES = {0xC0, 0xC1, 0xC2, 0xC9, 0xCA}
"""Baseline, extended and progressive, Huffman or arithmetic; not lossless or hierarchical."""

_PROGRESSIVE = {0xC2, 0xCA}
_MANY_SCANS = 64
_SMALL_BLOCK = 64
"""A scan of a progressive JPEG may visit every pixel and still be a few bytes long, so a file of
many scans is fed in small blocks: the clock is read about once per scan."""


def inspect(file: BinaryIO, size: int) -> Header:  # noqa: ARG001 - one signature for all formats
    """Header from the segments before the first scan; payloads are skipped, but for EXIF."""
    orientation = 1
    for marker, length in _segments(file):
        if marker == _APP1:
            payload = take(file, length, "its EXIF segment")
            if payload.startswith(b"Exif\0\0"):
                orientation = exif.orientation(payload)
        elif marker in _FRAMES:
            return _header(marker, take(file, length, "its frame header"), orientation)
        elif marker == _SOS:
            break
    raise corrupt("no frame header before the first scan")


def decode(data: bytes, header: Header, deadline: Deadline) -> Samples:
    """(H, W) or (H, W, 3) uint8 as stored, before its orientation is applied."""
    check_complete(data)
    image = JpegImagePlugin.JpegImageFile(TimedBytes(data, deadline))
    if has_many_scans(data):
        image.decodermaxblock = _SMALL_BLOCK
    mode = "L" if header.channels == 1 else "RGB"
    return np.asarray(image if image.mode == mode else image.convert(mode))


def check_complete(data: bytes) -> None:
    """
    Raises:
        InputError: `truncated`, when no end-of-image marker follows the first scan.
    """
    start, _ = _first_scan(data)
    if data.rfind(bytes((0xFF, _EOI)), start) < 0:
        raise InputError(Reason.TRUNCATED, "no end-of-image marker after the first scan")


def has_many_scans(data: bytes) -> bool:
    """Whether there may be more scans than any encoder writes (thumbnails count as well)."""
    _, is_only = _first_scan(data)
    return not is_only and data.count(bytes((0xFF, _SOS))) > _MANY_SCANS


def _first_scan(data: bytes) -> tuple[int, bool]:
    """(position of the first scan, whether it holds the whole image)."""
    file = io.BytesIO(data)
    components = 0
    for marker, length in _segments(file):
        start = file.tell()
        if marker in _FRAMES and length >= 6:
            components = 0 if marker in _PROGRESSIVE else data[start + 5]
        if marker == _SOS:
            return start, data[start : start + 1] == bytes((components,))
    raise corrupt("no scan")


def _segments(file: BinaryIO) -> Iterator[tuple[int, int]]:
    """(marker, payload length) of each segment up to the first scan, `file` at its payload."""
    position = 2
    parts = 0
    while True:
        bounded(parts := parts + 1, "segments before the first scan")
        file.seek(position)
        lead, marker = take(file, 2, "its segments")
        if lead != 0xFF:
            raise corrupt(f"byte {lead:#04x} where a marker is due, at {position}")
        if marker == 0xFF:  # a fill byte: the marker itself is still to come
            position += 1
            continue
        if marker == _EOI:
            raise corrupt("the image ends before its first scan")
        if marker in _STANDALONE:
            position += 2
            continue
        length = int.from_bytes(take(file, 2, "its segments"), "big")
        if length < 2:
            raise corrupt(f"segment of length {length} at {position}")
        position += 2 + length
        yield marker, length - 2


def _header(marker: int, frame: bytes, orientation: int) -> Header:
    if marker not in _READABLE_FRAMES:
        raise InputError(
            Reason.UNSUPPORTED_FORMAT, f"lossless or hierarchical JPEG (SOF{marker - 0xC0})"
        )
    if len(frame) < 6:
        raise corrupt(f"frame header of {len(frame)} bytes")
    if frame[0] != 8:
        raise InputError(Reason.UNSUPPORTED_PIXEL_TYPE, f"JPEG of {frame[0]} bits; 8 are read")
    height, width = int.from_bytes(frame[1:3], "big"), int.from_bytes(frame[3:5], "big")
    components = frame[5]
    channels = 3 if components == 4 else components  # CMYK and YCCK become RGB
    check_channels(channels)
    height, width = upright_shape(height, width, orientation)
    decoder = f"pillow {PIL.__version__}"
    return Header(height, width, channels, "uint8", "jpeg", decoder, orientation)
