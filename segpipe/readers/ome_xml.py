"""What is needed of OME-XML (https://docs.openmicroscopy.org/ome-model/6.3.1/): where planes are,
and how large a pixel is.

The text is read as a stream of elements; nothing is built of it, so its size is its cost. A
document type, and with it every entity, is refused.
"""

from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass
from xml.parsers import expat

from segpipe.errors import InputError, Reason
from segpipe.readers.planes import Extent, Plane
from segpipe.readers.structure import MAX_PARTS, bounded, corrupt

_MICROMETRES = {
    "pm": 1e-6, "nm": 1e-3, "µm": 1.0, "\N{GREEK SMALL LETTER MU}m": 1.0, "um": 1.0, "micron": 1.0,
    "mm": 1e3, "cm": 1e4, "m": 1e6, "angstrom": 1e-4, "Å": 1e-4, "in": 25_400.0,
    "picometer": 1e-6, "nanometer": 1e-3, "micrometer": 1.0, "millimeter": 1e3, "centimeter": 1e4,
    "meter": 1e6, "inch": 25_400.0,
}  # fmt: skip
"""Unit, as OME-XML or OME-Zarr writes it -> micrometres."""
_SMALLEST, _LARGEST = 1e-9, 1e9
_ORDERS = {"XYZCT": "zct", "XYZTC": "ztc", "XYCTZ": "ctz", "XYCZT": "czt", "XYTCZ": "tcz",
           "XYTZC": "tzc"}  # fmt: skip


def micrometres(size: float, unit: str) -> float | None:
    """A length in micrometres; None where it has no unit of length, or is none of a pixel.

    That is a femtometre to a kilometre: areas and sums of such lengths are numbers, too.
    """
    length = size * _MICROMETRES.get(unit, math.nan)
    return length if _SMALLEST <= length <= _LARGEST else None


@dataclass(frozen=True, slots=True)
class OmeImage:
    """The first image of a document.

    Attributes:
        shape: (height, width).
        samples: of a page: 3 for RGB, otherwise 1.
        pages: (z, t, c) -> number of the page, from 0, in the chain of pages.
        pixel_size_um: (y, x), or None.
    """

    shape: tuple[int, int]
    samples: int
    extent: Extent
    pages: dict[tuple[int, int, int], int]
    pixel_size_um: tuple[float, float] | None

    def pages_of(self, plane: Plane) -> list[int]:
        """The page of each channel of a plane.

        Raises:
            InputError: the image has no such plane, or the file has no page for it.
        """
        plane.within(self.extent)
        channels = range(self.extent.c) if plane.c is None else plane.c
        found = []
        for channel in channels:
            page = self.pages.get((plane.z, plane.t, channel))
            if page is None:
                raise InputError(
                    Reason.NOT_FOUND,
                    f"OME-XML names no page for z={plane.z}, t={plane.t}, c={channel}",
                )
            found.append(page)
        return found


def parse_ome_xml(text: str) -> OmeImage:
    """
    Raises:
        InputError: it is no OME-XML, has a document type, or says what cannot be.
    """
    document = _Document()
    try:
        document.parser.Parse(text, True)
    except expat.ExpatError as error:
        raise corrupt(f"OME-XML: {error}") from error
    if document.pixels is None:
        raise corrupt("OME-XML without an image")
    return _image(document.pixels, document.samples, document.data)


def first_pixel_size(text: str, shape: tuple[int, int]) -> tuple[float, float] | None:
    """(y, x) micrometres of the first image of a document that may be damaged, or cut off.

    Args:
        shape: (height, width) of the page; what is said of an image of another shape is not of it.
    """
    document = _Document(only_pixels=True)
    with contextlib.suppress(expat.ExpatError, InputError, _Found):
        document.parser.Parse(text, True)
    pixels = document.pixels or {}
    if (pixels.get("SizeY"), pixels.get("SizeX")) != tuple(map(str, shape)):
        return None
    return _pixel_size(pixels)


class _Found(Exception):  # noqa: N818 - ends the reading, and is no error
    pass


class _Document:
    """Keeps the attributes of `Pixels`, `Channel` and `TiffData` of the first image."""

    def __init__(self, only_pixels: bool = False) -> None:
        """`only_pixels`: raise `_Found` as soon as `Pixels` begins."""
        self._only_pixels = only_pixels
        self.pixels: dict[str, str] | None = None
        self.samples = 1
        self.data: list[dict[str, str]] = []
        self._finished = False
        # Not from the encoding that the text claims: it is text already.
        self.parser = expat.ParserCreate("utf-8", " ")
        self.parser.StartDoctypeDeclHandler = self._doctype
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end

    def _doctype(self, *_: object) -> None:
        raise corrupt("OME-XML with a document type (DTD), whose entities are not read")

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        name = name.rpartition(" ")[2]
        if self._finished:
            return
        if name == "Pixels" and self.pixels is None:
            self.pixels = dict(attributes)
            if self._only_pixels:
                raise _Found
        elif name == "Channel" and self.pixels is not None:
            self.samples = max(self.samples, _count(attributes, "SamplesPerPixel", 1))
        elif name == "TiffData":
            self.data.append(dict(attributes))
            bounded(len(self.data), "TiffData")
        elif name == "UUID" and attributes.get("FileName"):
            self.data[-1]["FileName"] = attributes["FileName"]
        elif name in ("BinData", "BinaryOnly"):
            raise InputError(Reason.UNSUPPORTED_FORMAT, f"OME-XML with {name}; its pages are read")

    def _end(self, name: str) -> None:
        self._finished |= name.rpartition(" ")[2] == "Pixels"


def _image(pixels: dict[str, str], samples: int, data: list[dict[str, str]]) -> OmeImage:
    sizes = {axis: _count(pixels, f"Size{axis.upper()}") for axis in "xyzct"}
    if sizes["c"] % samples:
        raise corrupt(f"OME-XML of {sizes['c']} channels, {samples} to a page")
    extent = Extent(sizes["z"], sizes["t"], sizes["c"] // samples)
    if extent.z * extent.t * extent.c > MAX_PARTS:
        raise corrupt(f"OME-XML of {extent}; up to {MAX_PARTS:,} planes are read")
    order = _ORDERS.get(pixels.get("DimensionOrder", ""))
    if order is None:
        raise corrupt(f"OME-XML of DimensionOrder {pixels.get('DimensionOrder')!r:.40}")
    _check_one_file(data)
    return OmeImage(
        (sizes["y"], sizes["x"]), samples, extent, _pages(extent, order, data), _pixel_size(pixels)
    )


def _check_one_file(data: list[dict[str, str]]) -> None:
    """Names of other files are never followed: they may lead anywhere."""
    names = {one["FileName"] for one in data if "FileName" in one}
    if len(names) > 1:
        raise InputError(
            Reason.UNSUPPORTED_FORMAT,
            f"OME-TIFF whose planes are in {len(names)} files; those of one file are read",
        )


def _pages(
    extent: Extent, order: str, data: list[dict[str, str]]
) -> dict[tuple[int, int, int], int]:
    """Where each plane is, by TiffData, or in the order of the dimensions where there is none."""
    sizes = [getattr(extent, axis) for axis in order]
    n_planes = math.prod(sizes)
    pages: dict[int, int] = {}
    named = 0
    for one in data or [{}]:
        page = _count(one, "IFD", 0, least=0)
        n_pages = min(_count(one, "PlaneCount", 1 if "IFD" in one else n_planes), n_planes)
        bounded(named := named + n_pages, "planes in TiffData")
        first = [_count(one, f"First{axis.upper()}", 0, least=0) for axis in order]
        if any(index >= size for index, size in zip(first, sizes, strict=True)):
            raise corrupt(f"OME-XML with a page for {dict(zip(order, first, strict=True))}")
        start = first[0] + sizes[0] * (first[1] + sizes[1] * first[2])
        for step in range(min(n_pages, n_planes - start)):
            pages[start + step] = page + step
    return {
        tuple(_place(number, order, sizes)[axis] for axis in "ztc"): page  # type: ignore[misc]
        for number, page in pages.items()
    }


def _place(number: int, order: str, sizes: list[int]) -> dict[str, int]:
    """Indices by axis of the plane of this number, the first axis fastest."""
    place = {}
    for axis, size in zip(order, sizes, strict=True):
        number, place[axis] = divmod(number, size)
    return place


def _pixel_size(pixels: dict[str, str]) -> tuple[float, float] | None:
    sizes = []
    for axis in "YX":
        try:
            size = float(pixels.get(f"PhysicalSize{axis}", "nan"))
        except ValueError:
            return None
        sizes.append(micrometres(size, pixels.get(f"PhysicalSize{axis}Unit", "µm")))
    return (sizes[0], sizes[1]) if sizes[0] and sizes[1] else None


def _count(
    attributes: dict[str, str], name: str, default: int | None = None, least: int = 1
) -> int:
    text = attributes.get(name)
    if text is None and default is not None:
        return default
    if text is None or not (text.isascii() and text.isdecimal() and len(text) <= 9):
        raise corrupt(f"OME-XML with {name}={text!r:.40}")
    if int(text) < least:
        raise corrupt(f"OME-XML with {name}={text}; at least {least}")
    return int(text)
