"""Windows bitmap, decoded by Pillow."""

from __future__ import annotations

from typing import BinaryIO

import numpy as np
import PIL
from PIL import BmpImagePlugin

from segpipe.readers.convert import Samples
from segpipe.readers.deadline import Deadline, TimedBytes
from segpipe.records import Header

SIGNATURES = (b"BM",)

_GREY_MODES = ("1", "L")


def inspect(file: BinaryIO, size: int) -> Header:  # noqa: ARG001 - one signature for all formats
    """Header as Pillow reads it, which is at most the header and a palette."""
    file.seek(0)
    image = BmpImagePlugin.BmpImageFile(file)
    channels = 1 if image.mode in _GREY_MODES else 3
    decoder = f"pillow {PIL.__version__}"
    return Header(image.height, image.width, channels, "uint8", "bmp", decoder)


def decode(data: bytes, header: Header, deadline: Deadline) -> Samples:
    """(H, W) or (H, W, 3) uint8; a run-length one is stopped by the deadline."""
    image = BmpImagePlugin.BmpImageFile(TimedBytes(data, deadline))
    return np.asarray(image.convert("L" if header.channels == 1 else "RGB"))
