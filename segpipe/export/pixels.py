"""Pixels as files that keep their values: PNG where it can hold them, and else TIFF."""

from __future__ import annotations

from typing import BinaryIO

import numpy as np
import tifffile
from PIL import Image

from segpipe.records import Pixels


def suffix_of(pixels: Pixels) -> str:
    """`.png` for bytes and for 16-bit grey, `.tif` for the rest."""
    grey16 = pixels.dtype == np.uint16 and pixels.shape[2] == 1
    return ".png" if pixels.dtype == np.uint8 or grey16 else ".tif"


def encode_pixels(pixels: Pixels, file: BinaryIO) -> None:
    """(H, W, C): grey or colour; of bytes the last channel may be opacity, C is then 2 or 4."""
    plane = pixels.squeeze(2) if pixels.shape[2] == 1 else pixels
    if suffix_of(pixels) == ".tif":
        tifffile.imwrite(file, plane)
    else:
        Image.fromarray(plane).save(file, "PNG")
