"""TIFF by region: only those strips or tiles are decoded that the region meets.

Pyramids are the pages below a page (SubIFDs, as OME-TIFF has them) or those behind it that say
that they are reduced (as GeoTIFF has them). Planes are pages, by OME-XML.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from segpipe.errors import InputError, Reason
from segpipe.geometry import Box
from segpipe.readers.convert import Samples, upright_shape
from segpipe.readers.deadline import Deadline
from segpipe.readers.ome_xml import OmeImage, parse_ome_xml
from segpipe.readers.planes import MAX_CHANNELS, Extent, Plane
from segpipe.readers.regions.georeference import MAX_VALUES, TAGS, georeference
from segpipe.readers.regions.recent import Recent
from segpipe.readers.regions.shared_file import SharedFile
from segpipe.readers.regions.source import (
    About,
    Level,
    RegionLimits,
    RegionSource,
    check_memory,
    check_size,
)
from segpipe.readers.structure import corrupt
from segpipe.readers.tiff import inspect, interpret
from segpipe.readers.tiff_directory import Directories, Layout, layout_of
from segpipe.readers.tiff_pyramid import Page, reduced_pages
from segpipe.readers.tiff_segments import Segment, Segments

if TYPE_CHECKING:
    import tifffile

_ROWS_BYTES = 4 << 20
"""Of a strip that is not compressed, as much is taken for a strip of its own."""


@dataclass(frozen=True, slots=True, eq=False)
class _Readable:
    """A page whose pixels can be read."""

    number: int
    layout: Layout
    segments: Segments
    colour_map: Samples | None


class TiffSource(RegionSource):
    """A TIFF or BigTIFF of strips or tiles."""

    def __init__(
        self,
        file: SharedFile,
        about: About,
        levels: Sequence[Sequence[_Readable]],
        limits: RegionLimits,
        name: str,
    ) -> None:
        super().__init__(name, about, limits)
        self._file, self._pages = file, levels
        self._recent: Recent[Segment] = Recent(
            limits.kept_bytes, lambda segment: segment.samples.nbytes
        )

    def close(self) -> None:
        self._recent.clear()
        self._file.close()

    def _samples(self, box: Box, level: int, deadline: Deadline) -> Samples:
        channels = [self._page(page, box, deadline) for page in self._pages[level]]
        return channels[0] if len(channels) == 1 else np.concatenate(channels, axis=2)

    def _page(self, page: _Readable, box: Box, deadline: Deadline) -> Samples:
        def decoded(index: int) -> Segment:
            key = page.number, index
            return self._recent.get(key, lambda: page.segments.decoded(index))

        samples = interpret(
            page.segments.samples(box, deadline, decoded), page.layout, page.colour_map
        )
        return samples[:, :, np.newaxis] if samples.ndim == 2 else samples


def open_tiff(file: SharedFile, plane: Plane | None, limits: RegionLimits, name: str) -> TiffSource:
    """
    Args:
        plane: None for the first page, whatever planes there are.

    Raises:
        InputError: damaged, of a kind that is not read, over a limit, without this plane; or
            whatever tifffile raises.
    """
    import tifffile

    header = inspect(file.file, file.size)
    check_size(header, limits)
    directories = Directories(file.file, file.size)
    tags, following = directories.read(directories.first)
    chain = directories.chain(following)
    file.file.seek(0)  # tifffile takes its position for the beginning
    with tifffile.TiffFile(file.file, name="image", _multifile=False) as opened:
        opener = _Opener(opened, file, limits)
        ome = _ome_image(opened, layout_of(tags), strict=plane is not None)
        chosen = _chosen(ome, plane, len(chain))
        stacks = [reduced_pages(directories, chain, number, limits.max_pixels) for number in chosen]
        _check_alike(stacks)
        levels = [
            [opener.readable(page) for page in channels] for channels in zip(*stacks, strict=True)
        ]
        about = _about(header, stacks[0], ome, opened)
    n_channels = header.channels * len(chosen)
    about = replace(
        about,
        header=replace(header, channels=n_channels),
        any_channels=len(chosen) > 1,
    )
    return TiffSource(file, about, levels, limits, name)


class _Opener:
    """Makes pages readable; those of one offset once."""

    def __init__(self, opened: tifffile.TiffFile, file: SharedFile, limits: RegionLimits) -> None:
        self._opened, self._file, self._limits = opened, file, limits

    def readable(self, page: Page) -> _Readable:
        """
        Raises:
            InputError: a strip or tile of it is larger than memory allows; it is damaged.
        """
        import tifffile

        self._opened.filehandle.seek(page.offset)
        found = tifffile.TiffPage(self._opened, index=0)
        segments = Segments(found, page.layout, self._file.read)
        segments.split(_ROWS_BYTES)
        height, width = segments.shape
        what = f"decoding a strip or tile of {height:,} x {width:,} pixels"
        check_memory(segments.decoded_bytes, what, self._limits)
        check_memory(segments.most_stored_bytes, "reading a strip or tile", self._limits)
        return _Readable(page.offset, page.layout, segments, found.colormap)


def _ome_image(opened: tifffile.TiffFile, layout: Layout, strict: bool) -> OmeImage | None:
    """What the description of the first page says, where it is OME-XML.

    Args:
        strict: planes are wanted; otherwise a kind of OME-XML that is not read does no harm.
    """
    text = opened.pages.first.description
    if "<OME" not in text[:4096] and ":OME" not in text[:4096]:
        return None
    try:
        found = parse_ome_xml(text)
    except InputError as error:
        if strict or error.reason is not Reason.UNSUPPORTED_FORMAT:
            raise
        return None
    if found.shape != (layout.height, layout.width):
        raise corrupt(f"OME-XML of {found.shape} in a file of {(layout.height, layout.width)}")
    return found


def _chosen(ome: OmeImage | None, plane: Plane | None, n_pages: int) -> list[int]:
    """Numbers of the pages that become the pixels."""
    if plane is None:
        return [0]
    if ome is None:
        plane.within(Extent())
        return [0]
    pages = ome.pages_of(plane)
    if len(pages) > MAX_CHANNELS:
        raise InputError(
            Reason.UNSUPPORTED_CHANNELS,
            f"{len(pages)} channels; choose up to {MAX_CHANNELS}, such as #c=0",
        )
    if len(pages) > 1 and ome.samples > 1:
        raise InputError(
            Reason.UNSUPPORTED_CHANNELS,
            f"{len(pages)} images of {ome.samples} colours each; choose one, such as #c=0",
        )
    for page in pages:
        if page >= n_pages:
            raise InputError(Reason.NOT_FOUND, f"page {page}; the file has 0 to {n_pages - 1}")
    return pages


def _check_alike(stacks: Sequence[Sequence[Page]]) -> None:
    """Channels are of one shape and type, and of the same levels."""
    kinds = {tuple(page.kind for page in stack) for stack in stacks}
    if len(kinds) > 1:
        raise corrupt("channels of different shapes, types or levels")


def _about(
    header: Any, stack: Sequence[Page], ome: OmeImage | None, opened: tifffile.TiffFile
) -> About:
    whole = header.shape
    shapes = [
        upright_shape(page.layout.height, page.layout.width, header.orientation) for page in stack
    ]
    return About(
        header,
        tuple(Level.of(shape, whole) for shape in shapes),
        ome.extent if ome else Extent(),
        georeference(_geo_tags(opened.pages.first)),
    )


def _geo_tags(page: tifffile.TiffPage) -> dict[int, list[Any] | str]:
    found: dict[int, list[Any] | str] = {}
    for code in TAGS:
        tag = page.tags.get(code)
        if tag is not None and tag.count <= MAX_VALUES:
            value = tag.value
            if isinstance(value, str):
                found[code] = value
            elif isinstance(value, (tuple, list)):
                found[code] = list(value)
            elif isinstance(value, (int, float)):
                found[code] = [value]
    return found
