"""The tags of GeoTIFF (OGC 19-008r4), carried along: nothing here changes a pixel."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from segpipe.readers.regions.source import Georeference

PIXEL_SCALE, TIE_POINTS, TRANSFORMATION, KEYS = 33550, 33922, 34264, 34735
PLACING = {
    PIXEL_SCALE: "d", TIE_POINTS: "d", TRANSFORMATION: "d", KEYS: "H", 34736: "d", 34737: "s",
}  # fmt: skip
"""Tags that place an image, and the types of their values as `struct` names them."""

_TYPES = {**PLACING, 42112: "s", 42113: "s"}
"""The last two are GDAL's metadata and its value of no data."""

TAGS = tuple(_TYPES)
MAX_VALUES = 1 << 16
"""Of one tag; more are not carried."""

_RASTER_TYPE, _GEOGRAPHIC, _PROJECTED = 1025, 2048, 3072
_PIXEL_IS_POINT = 2
_USER_DEFINED = 32767

Affine = tuple[float, float, float, float, float, float]


def georeference(tags: dict[int, list[Any] | str]) -> Georeference | None:
    """What the tags say; None where none places the image, or one is not of GeoTIFF's type.

    Args:
        tags: those of `TAGS` that the first page has.
    """
    if not {PIXEL_SCALE, TRANSFORMATION, KEYS}.intersection(tags):
        return None
    if not all(_is_sound(code, values) for code, values in tags.items()):
        return None
    keys = _short_keys(tags.get(KEYS, []))
    code = keys.get(_PROJECTED, keys.get(_GEOGRAPHIC, 0))
    affine = _affine(tags)
    if affine is not None and keys.get(_RASTER_TYPE) == _PIXEL_IS_POINT:
        affine = _from_centres(affine)
    known = 1024 <= code < _USER_DEFINED
    return Georeference(affine, code if known else None, tags)


def _is_sound(code: int, values: list[Any] | str) -> bool:
    kind = _TYPES[code]
    if isinstance(values, str) or kind == "s":
        return isinstance(values, str) and kind == "s"
    if kind == "H":
        return all(isinstance(value, int) and 0 <= value < 1 << 16 for value in values)
    return all(isinstance(value, (int, float)) and math.isfinite(value) for value in values)


def _short_keys(values: list[Any] | str) -> dict[int, int]:
    """GeoKeys whose value stands in the directory itself: id -> value."""
    if isinstance(values, str):
        return {}
    rows = [values[start : start + 4] for start in range(4, len(values) - 3, 4)]
    return {key: value for key, place, _, value in rows if place == 0}


def _affine(tags: dict[int, list[Any] | str]) -> Affine | None:
    matrix = _numbers(tags.get(TRANSFORMATION))
    scale, tie = _numbers(tags.get(PIXEL_SCALE)), _numbers(tags.get(TIE_POINTS))
    if len(matrix) == 16:
        return (matrix[0], matrix[1], matrix[3], matrix[4], matrix[5], matrix[7])
    if len(scale) >= 2 and len(tie) == 6:
        column, row, _, x, y, _ = tie
        return (scale[0], 0.0, x - column * scale[0], 0.0, -scale[1], y + row * scale[1])
    return None


def _from_centres(affine: Affine) -> Affine:
    """The same map for corners of pixels, where the tags mean their centres."""
    a, b, c, d, e, f = affine
    return (a, b, c - (a + b) / 2, d, e, f - (d + e) / 2)


def _numbers(values: list[Any] | str | None) -> Sequence[float]:
    """The values, where all of them are finite numbers; otherwise none."""
    if not isinstance(values, list):
        return ()
    numbers = [float(value) for value in values]
    return numbers if all(map(math.isfinite, numbers)) else ()
