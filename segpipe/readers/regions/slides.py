"""Whole-slide formats, read by OpenSlide, which is installed with `segpipe[slides]`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_to_bytes

import numpy as np

from segpipe.errors import InputError, Reason
from segpipe.geometry import Box
from segpipe.readers.convert import Samples
from segpipe.readers.deadline import Deadline
from segpipe.readers.ome_xml import micrometres
from segpipe.readers.planes import Extent, Plane
from segpipe.readers.regions.source import (
    About,
    Level,
    RegionLimits,
    RegionSource,
    check_size,
)
from segpipe.readers.structure import corrupt
from segpipe.records import Header

if TYPE_CHECKING:
    import openslide

NAMES = (b".svs", b".ndpi", b".mrxs", b".vms", b".vmu", b".scn", b".svslide", b".bif")
_WHITE = 255


def is_slide(uri: str) -> bool:
    """Whether a name is that of a slide: their content is that of a TIFF or a JPEG."""
    return unquote_to_bytes(uri).lower().endswith(NAMES)


class SlideSource(RegionSource):
    """A slide. What was not scanned is white, as viewers of slides show it.

    Where the factor between levels is no whole number, OpenSlide moves a region of a smaller level
    by less than one of its pixels. It knows no deadline.
    """

    def __init__(
        self, slide: openslide.OpenSlide, about: About, limits: RegionLimits, name: str
    ) -> None:
        super().__init__(name, about, limits)
        self._slide = slide

    def close(self) -> None:
        self._slide.close()

    def _samples(self, box: Box, level: int, deadline: Deadline) -> Samples:  # noqa: ARG002
        scale = self._slide.level_downsamples[level]
        corner = round(box.x0 * scale), round(box.y0 * scale)
        rgba = np.asarray(self._slide.read_region(corner, level, (box.width, box.height)))
        colours, alpha = rgba[:, :, :3], rgba[:, :, 3:]
        if alpha.min(initial=255) == 255:
            return colours
        mixed = colours * (alpha / 255) + _WHITE * (1 - alpha / 255)
        return np.rint(mixed).astype(np.uint8)


def open_slide(path: str, plane: Plane | None, limits: RegionLimits, name: str) -> SlideSource:
    """
    Raises:
        InputError: OpenSlide is not installed or does not read it; it is over a limit.
    """
    openslide = _openslide()
    if not os.path.isfile(path):  # noqa: PTH113 - any bytes, as strings
        raise InputError(Reason.NOT_FOUND, "no such file")
    (plane or Plane()).within(Extent())
    if openslide.OpenSlide.detect_format(path) is None:
        raise InputError(Reason.UNSUPPORTED_FORMAT, "no slide that OpenSlide reads")
    slide = openslide.OpenSlide(path)
    try:
        about = _about(slide, f"openslide {openslide.__library_version__}")
        check_size(about.header, limits)
    except BaseException:
        slide.close()
        raise
    return SlideSource(slide, about, limits, name)


def _about(slide: openslide.OpenSlide, decoder: str) -> About:
    shapes = [(height, width) for width, height in slide.level_dimensions]
    if not shapes or 0 in shapes[-1]:
        raise corrupt(f"a slide with levels of {shapes}")
    header = Header(
        *shapes[0], 3, "uint8", "slide", decoder, pixel_size_um=_pixel_size(slide.properties)
    )
    return About(header, tuple(Level.of(shape, shapes[0]) for shape in shapes))


def _pixel_size(properties: Any) -> tuple[float, float] | None:
    try:
        sizes = (float(properties[f"openslide.mpp-{axis}"]) for axis in "yx")
        y, x = (micrometres(size, "um") for size in sizes)
    except (KeyError, ValueError):
        return None
    return (y, x) if y and x else None


def _openslide() -> Any:
    try:
        import openslide
    except ImportError as error:
        raise InputError(
            Reason.UNSUPPORTED_FORMAT, "a slide: pip install 'segpipe[slides]' to read it"
        ) from error
    return openslide
