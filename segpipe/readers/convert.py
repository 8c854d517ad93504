"""From samples as stored to pixels: one declared rule, pure functions.

| stored | pixels |
|---|---|
| 1 bit (PNG, BMP, PBM, TIFF), bool | uint8, 0 and 255 |
| grey of 2 or 4 bits (PNG, TIFF) | uint8, scaled to 0..255 |
| uint8, int8, uint16, int16, uint32, int32 | as they are; 10, 12, 14 bits in uint16 unscaled |
| float16, float32, float64 | as they are (1e300 stays); NaN and infinities become 0, counted |
| palette | RGB uint8 (the high byte of a 16-bit colour map) |
| grey + alpha, RGBA, a transparent colour or palette entry | alpha dropped, colour as stored |
| a fourth sample of an RGB TIFF | taken for alpha, dropped |
| CMYK, YCCK | RGB uint8 |
| TIFF with 0 for white | integers inverted, so that brighter is larger |
| EXIF or TIFF orientation 2 to 8 | turned upright |
| 64-bit integers, complex, CIELAB | refused, `unsupported_pixel_type` |
| another number of channels than 1 or 3 | refused, `unsupported_channels` |

Colour profiles and gamma are not applied. Nothing is rescaled beyond this table, nothing clipped.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from segpipe.errors import InputError, Reason
from segpipe.geometry import Box
from segpipe.records import Pixels

Samples = npt.NDArray[Any]

PIXEL_TYPES = (
    "uint8", "uint16", "uint32", "int8", "int16", "int32", "float16", "float32", "float64",
)  # fmt: skip


def as_pixels(
    samples: Samples, orientation: int = 1, any_channels: bool = False
) -> tuple[Pixels, int]:
    """Samples without alpha, (H, W) or (H, W, C), to upright pixels.

    Args:
        any_channels: whoever asks has chosen the channels: how many they are is for him to know.

    Returns:
        Pixels (H, W, C), C is 1 or 3 unless `any_channels`, C-contiguous, native byte order,
        perhaps read-only; and how many samples were NaN or infinite and are 0 now.

    Raises:
        InputError: `unsupported_pixel_type`, `unsupported_channels`.
    """
    if samples.ndim == 2:
        samples = samples[:, :, np.newaxis]
    if not any_channels:
        check_channels(samples.shape[2])
    if samples.dtype == np.bool_:
        samples = full_range(samples, bits=1)
    check_pixel_type(samples.dtype.name)
    samples = samples.astype(samples.dtype.newbyteorder("="), copy=False)
    finite, n_nonfinite = without_nonfinite(samples)
    return np.ascontiguousarray(upright(finite, orientation)), n_nonfinite


def check_channels(channels: int) -> None:
    """
    Raises:
        InputError: `unsupported_channels`, unless it is 1 or 3.
    """
    if channels not in (1, 3):
        raise InputError(
            Reason.UNSUPPORTED_CHANNELS,
            f"{channels} channels besides alpha; 1 (grey) or 3 (RGB) are read",
        )


def check_pixel_type(name: str) -> None:
    """
    Raises:
        InputError: `unsupported_pixel_type`, unless the numpy name is of `PIXEL_TYPES`.
    """
    if name not in PIXEL_TYPES:
        raise InputError(
            Reason.UNSUPPORTED_PIXEL_TYPE, f"{name}; pixel types read: {', '.join(PIXEL_TYPES)}"
        )


def full_range(samples: Samples, bits: int) -> npt.NDArray[np.uint8]:
    """Values of 1, 2 or 4 bits to uint8, so that the largest becomes 255."""
    factor = np.uint8(255 // (2**bits - 1))
    scaled: npt.NDArray[np.uint8] = samples.astype(np.uint8) * factor
    return scaled


def colours(indices: Samples, colour_map: npt.NDArray[np.uint16]) -> npt.NDArray[np.uint8]:
    """Palette indices (H, W) through a 16-bit map (3, N) to RGB (H, W, 3).

    Raises:
        InputError: `corrupt`, when an index is outside the map.
    """
    if indices.size and int(indices.max()) >= colour_map.shape[1]:
        raise InputError(
            Reason.CORRUPT,
            f"palette index {indices.max()} in a palette of {colour_map.shape[1]} colours",
        )
    table = np.ascontiguousarray((colour_map >> 8).astype(np.uint8).T)
    return table[indices]


def rgb_from_cmyk(samples: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """CMYK (H, W, 4), 255 is full ink, to RGB: (255 - ink) x (255 - black) / 255."""
    light = 255 - samples.astype(np.uint16)
    rgb: npt.NDArray[np.uint16] = (light[..., :3] * light[..., 3:] + 127) // 255
    return rgb.astype(np.uint8)


def inverted(samples: Samples, bits: int) -> Samples:
    """Integers of `bits` bits mirrored in their range: the smallest becomes the largest."""
    if samples.dtype.kind == "i":
        return np.invert(samples)
    mirrored: Samples = samples.dtype.type(2**bits - 1) - samples
    return mirrored


def without_nonfinite(samples: Samples) -> tuple[Samples, int]:
    """NaN and infinities replaced by 0, and their number; other values are untouched."""
    if samples.dtype.kind != "f":
        return samples, 0
    finite = np.isfinite(samples)
    n_nonfinite = finite.size - int(np.count_nonzero(finite))
    if n_nonfinite:
        samples = np.where(finite, samples, samples.dtype.type(0))
    return samples, n_nonfinite


def upright(samples: Samples, orientation: int) -> Samples:
    """(H, W, C) as it is meant to be seen, by EXIF orientation (1 to 8); a view."""
    if orientation in (5, 6, 7, 8):
        samples = samples.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        samples = samples[::-1]
    if orientation in (2, 3, 6, 7):
        samples = samples[:, ::-1]
    return samples


def upright_shape(height: int, width: int, orientation: int) -> tuple[int, int]:
    """(height, width) after `upright`."""
    return (width, height) if orientation in (5, 6, 7, 8) else (height, width)


def stored_box(box: Box, shape: tuple[int, int], orientation: int) -> Box:
    """Where the pixels of `box` are stored: `upright` of that region is `box` of the whole.

    Args:
        box: in the upright frame, inside of it.
        shape: (height, width) of the upright image.
    """
    y0, x0, y1, x1 = box.y0, box.x0, box.y1, box.x1
    if orientation in (2, 3, 6, 7):
        x0, x1 = shape[1] - x1, shape[1] - x0
    if orientation in (3, 4, 7, 8):
        y0, y1 = shape[0] - y1, shape[0] - y0
    return Box(x0, y0, x1, y1) if orientation in (5, 6, 7, 8) else Box(y0, x0, y1, x1)
