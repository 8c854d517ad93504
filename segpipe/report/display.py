"""Pixels as people see them, and colours that they can tell apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from segpipe.compiled import compiled, readable
from segpipe.records import Pixels

Picture = npt.NDArray[np.uint8]
"""(H, W, 3), sRGB."""

PALETTE: Final[npt.NDArray[np.uint8]] = np.array(
    [
        (230, 159, 0),  # orange
        (86, 180, 233),  # sky blue
        (0, 158, 115),  # bluish green
        (240, 228, 66),  # yellow
        (0, 114, 178),  # blue
        (213, 94, 0),  # vermilion
        (204, 121, 167),  # reddish purple
        (102, 224, 194),  # mint
        (190, 160, 255),  # lavender
        (255, 150, 140),  # salmon
    ],
    np.uint8,
)
"""The seven colours of Okabe and Ito (Color Universal Design, 2008), and three light ones."""

Contrast = tuple[float, float]
"""The value that becomes black, and the one that becomes white."""

_NEIGHBOURS = 12


def display(pixels: Pixels) -> Picture:
    """Pixels of any type as a picture.

    8-bit colour is shown as it is. All else, also grey, is stretched so that the 0.5th and the
    99.8th percentile, over all channels together, become black and white; pixels that are all
    equal are shown grey.

    Args:
        pixels: (H, W, C), finite; C is 1 or 3.
    """
    return shown(pixels, contrast(pixels))


def contrast(pixels: Pixels) -> Contrast | None:
    """What becomes black and what white, as `display` chooses it; None: shown as it is."""
    if pixels.dtype == np.uint8 and pixels.shape[2] == 3:
        return None
    # Percentiles of a sample: a large image need not be sorted whole.
    step = max(1, int((pixels.size / 1e6) ** 0.5))
    sample = pixels[::step, ::step].astype(np.float64)
    low, high = np.percentile(sample, (0.5, 99.8), method="nearest")
    return (low, high) if high > low else (sample.min(), sample.max())


def shown(pixels: Pixels, between: Contrast | None) -> Picture:
    """The picture of an image, or of a part of it.

    Args:
        between: of the whole image, from `contrast`.
    """
    if between is None:
        return pixels.copy()
    low, high = between
    # Halves: the difference of two floats may overflow, that of their halves cannot.
    span = high / 2 - low / 2
    if span <= 0:
        return np.full((*pixels.shape[:2], 3), 128, np.uint8)
    if pixels.dtype in (np.uint8, np.uint16):
        # There are fewer values than pixels: each is worked out once.
        values = np.arange(np.iinfo(pixels.dtype).max + 1)
        picture = _stretched(values, low, high, span)[pixels]
    else:
        picture = _stretched(pixels, low, high, span)
    return np.repeat(picture, 3 // pixels.shape[2], axis=2)


def _stretched(
    values: npt.NDArray[Any], low: float, high: float, span: float
) -> npt.NDArray[np.uint8]:
    inside = np.clip(values.astype(np.float64), low, high)
    grey: npt.NDArray[np.uint8] = np.rint(255 * ((inside / 2 - low / 2) / span)).astype(np.uint8)
    return grey


def neighbour_colours(centres: npt.NDArray[np.float64]) -> npt.NDArray[np.uint8]:
    """A colour per object, such that near objects have different ones.

    In turn, each object takes the colour whose nearest use, among its neighbours, is furthest.

    Args:
        centres: (N, 2), in order; the same centres get the same colours.

    Returns:
        (N, 3).
    """
    n, colours = len(centres), len(PALETTE)
    if n == 0:
        return np.empty((0, 3), np.uint8)
    _, near = cKDTree(centres).query(centres, k=min(_NEIGHBOURS + 1, n))
    chosen = _choose(readable(near.reshape(n, -1), np.int64), colours)
    colours_of: npt.NDArray[np.uint8] = PALETTE[chosen]
    return colours_of


@compiled
def _choose(near: npt.NDArray[np.int64], colours: int) -> npt.NDArray[np.int64]:
    """(N,) number of a colour; `near` are (N, K) indices, the nearest first."""
    chosen = np.full(len(near), -1)
    rank = np.empty(colours, np.int64)
    for i in range(len(near)):
        for colour in range(colours):
            # Unused colours are taken in turn, so that all of them appear.
            rank[colour] = colours + _NEIGHBOURS - (colour - i) % colours
        for place in range(near.shape[1] - 1, -1, -1):
            if chosen[near[i, place]] >= 0:
                rank[chosen[near[i, place]]] = place - _NEIGHBOURS
        chosen[i] = np.argmax(rank)
    return chosen


def class_colours(n_classes: int) -> npt.NDArray[np.uint8]:
    """(n_classes, 3): a colour per class id; class 0, the background, is black."""
    classes = PALETTE[np.arange(max(0, n_classes - 1)) % len(PALETTE)]
    return np.vstack([np.zeros((1, 3), np.uint8), classes])[:n_classes]


def is_dark(colour: Sequence[int]) -> bool:
    """Whether black text on a colour, (3,) sRGB 0..255, would be hard to read."""
    red, green, blue = colour
    return 0.299 * red + 0.587 * green + 0.114 * blue <= 110
