"""How large a pixel of a TIFF is on the object, from what its first page says.

In this order, and what is found first decides:

| the description (ImageDescription) | pixel size |
|---|---|
| OME-XML | PhysicalSizeY and PhysicalSizeX with their units |
| of an Aperio slide | `MPP`, micrometres |
| of ImageJ, with a `unit` of nm, micron or mm | resolution tags, in this unit |
| of ImageJ without a unit, or in pixels | not known |
| any other | resolution tags in cm or inch, where a pixel is at most 10 micrometres |

Larger pixels by the tags alone are sizes on paper, such as 300 dpi (85 micrometres), and so is what
a JPEG or a PNG says; that is no size of the object, and is not taken for one.
"""

from __future__ import annotations

import math
import re
import struct
from dataclasses import dataclass

from segpipe.errors import InputError
from segpipe.readers.ome_xml import first_pixel_size, micrometres
from segpipe.readers.tiff_directory import Directories, Layout

LARGEST_BY_TAGS = 10.0
"""Micrometres; see above."""
MAX_TEXT = 4 << 20
"""Bytes of the description that are looked at."""

_DESCRIPTION, _X_RESOLUTION, _Y_RESOLUTION, _RESOLUTION_UNIT = 270, 282, 283, 296
_ASCII, _SHORT, _RATIONAL = 2, 3, 5
_TAG_UNITS = {2: "inch", 3: "cm"}
_INCH = 2
_PRINT_UNITS = ("inch", "in", "cm")
_MPP = re.compile(r"\|\s*MPP\s*=\s*([0-9.eE+-]{1,30})")
_IMAGEJ_UNIT = re.compile(r"^unit=(.{0,40})$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class _Said:
    """What the first page says; pixels per unit, 0 where it says nothing."""

    description: str = ""
    per_unit: tuple[float, float] = (0.0, 0.0)
    unit: str = ""


def tiff_pixel_size(directories: Directories, layout: Layout) -> tuple[float, float] | None:
    """(y, x) micrometres, in the frame of the results; None where it is not known.

    Args:
        layout: of the first page.
    """
    try:
        said = _said(directories)
    except InputError:
        return None  # what is behind the end of the file
    size = _size(said, (layout.height, layout.width))
    return (size[1], size[0]) if size and layout.orientation in (5, 6, 7, 8) else size


def _size(said: _Said, shape: tuple[int, int]) -> tuple[float, float] | None:
    text = said.description
    if "<OME" in text[:4096] or ":OME" in text[:4096]:
        return first_pixel_size(text, shape)
    if text.startswith("Aperio"):
        found = _MPP.search(text)
        return _lengths((_number(found[1]),) * 2, "um") if found else None
    if text.startswith("ImageJ="):
        found = _IMAGEJ_UNIT.search(text)
        unit = found[1].strip().replace("\\u00B5", "\N{MICRO SIGN}") if found else ""
        return _by_resolution(said.per_unit, unit)
    return _by_resolution(said.per_unit, said.unit)


def _by_resolution(per_unit: tuple[float, float], unit: str) -> tuple[float, float] | None:
    if not all(per_unit):
        return None
    size = _lengths((1 / per_unit[0], 1 / per_unit[1]), unit)
    if size is None or (unit in _PRINT_UNITS and max(size) > LARGEST_BY_TAGS):
        return None
    return size


def _lengths(size: tuple[float, float], unit: str) -> tuple[float, float] | None:
    y, x = (micrometres(length, unit) for length in size)
    return (y, x) if y and x else None


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _said(directories: Directories) -> _Said:
    """
    Raises:
        InputError: it says that some of it is where the file has ended.
    """
    description, unit = "", _TAG_UNITS[_INCH]  # which TIFF 6.0 takes where none is named
    per_unit = {_Y_RESOLUTION: 0.0, _X_RESOLUTION: 0.0}
    entries, _ = directories.entries(directories.first)
    for tag, kind, count, value in entries:
        if tag == _DESCRIPTION and kind == _ASCII:
            raw = directories.value(min(count, MAX_TEXT), value)
            description = raw.partition(b"\0")[0].decode("utf-8", "replace")
        elif tag in per_unit and kind == _RATIONAL and count == 1:
            above, below = struct.unpack(directories.order + "2I", directories.value(8, value))
            per_unit[tag] = above / below if below else 0.0
        elif tag == _RESOLUTION_UNIT and kind == _SHORT:
            (code,) = struct.unpack(directories.order + "H", value[:2])
            unit = _TAG_UNITS.get(code, "")
    return _Said(description, (per_unit[_Y_RESOLUTION], per_unit[_X_RESOLUTION]), unit)
