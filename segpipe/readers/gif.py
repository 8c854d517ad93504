"""GIF89a, decoded by Pillow: the first frame on its canvas, as RGB.

Frames are counted by walking the blocks, as far as the two bounds below; where they end the walk,
`n_frames` is what was counted.
"""

from __future__ import annotations

from typing import BinaryIO

import numpy as np
import PIL
from PIL import GifImagePlugin

from segpipe.readers.convert import Samples
from segpipe.readers.deadline import Deadline, TimedBytes
from segpipe.readers.structure import corrupt, truncated
from segpipe.records import Header

SIGNATURES = (b"GIF87a", b"GIF89a")

_COUNTED_BYTES = 64 << 20
_COUNTED_BLOCKS = 1 << 20
_IMAGE, _EXTENSION, _TRAILER = 0x2C, 0x21, 0x3B


def inspect(file: BinaryIO, size: int) -> Header:  # noqa: ARG001 - one signature for all formats
    """Header from the first blocks.

    The canvas is the logical screen, grown where the first frame reaches beyond it.
    """
    file.seek(0)
    data = file.read(_COUNTED_BYTES)
    if len(data) < 13:
        raise truncated("its header")
    frames = _frames(data)
    if not frames:
        raise truncated("its first frame") if _TRAILER not in data[13:] else corrupt("no frame")
    screen = _pair(data, 6)
    left, top = _pair(data, frames[0] + 1)
    width, height = _pair(data, frames[0] + 5)
    return Header(
        height=max(screen[1], top + height),
        width=max(screen[0], left + width),
        channels=3,
        dtype="uint8",
        format="gif",
        decoder=f"pillow {PIL.__version__}",
        n_frames=len(frames),
    )


def decode(data: bytes, header: Header, deadline: Deadline) -> Samples:  # noqa: ARG001
    """(H, W, 3) uint8: the first frame; a transparent colour stays that colour."""
    image = GifImagePlugin.GifImageFile(TimedBytes(data, deadline))
    return np.asarray(image.convert("RGB"))


def _pair(data: bytes, position: int) -> tuple[int, int]:
    low, high = data[position : position + 2], data[position + 2 : position + 4]
    return int.from_bytes(low, "little"), int.from_bytes(high, "little")


def _frames(data: bytes) -> list[int]:
    """Positions of the image descriptors, as far as the structure can be followed."""
    frames: list[int] = []
    blocks = 0
    position = 13 + _table_bytes(data[10])
    while position + 10 <= len(data) and data[position] in (_IMAGE, _EXTENSION):
        if data[position] == _IMAGE:
            frames.append(position)
            position += 11 + _table_bytes(data[position + 9])
        else:
            position += 2
        while position < len(data) and data[position]:
            position += 1 + data[position]
            blocks += 1
            if blocks > _COUNTED_BLOCKS:
                return frames
        position += 1
    return frames


def _table_bytes(flags: int) -> int:
    """Size of the colour table that `flags` announce."""
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0
