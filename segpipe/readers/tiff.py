"""TIFF 6.0 and BigTIFF: the first page, its strips or tiles decoded by tifffile and imagecodecs."""

from __future__ import annotations

import io
import math
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from segpipe.readers import jpeg
from segpipe.readers.convert import (
    Samples,
    colours,
    full_range,
    inverted,
    rgb_from_cmyk,
    upright_shape,
)
from segpipe.readers.deadline import Deadline
from segpipe.readers.structure import corrupt, truncated
from segpipe.readers.tiff_directory import (
    CMYK,
    JPEG,
    PALETTE,
    WHITE_IS_ZERO,
    Layout,
    read_directory,
)
from segpipe.records import Header

if TYPE_CHECKING:
    import tifffile

SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def inspect(file: BinaryIO, size: int) -> Header:
    """Header of the first page; pages are counted by following their chain, loops included."""
    import tifffile

    layout, n_pages = read_directory(file, size)
    height, width = upright_shape(layout.height, layout.width, layout.orientation)
    return Header(
        height,
        width,
        channels=layout.colours,
        dtype=layout.pixel_type,
        format="tiff",
        decoder=f"tifffile {tifffile.__version__}",
        orientation=layout.orientation,
        n_frames=n_pages,
    )


def decode(data: bytes, header: Header, deadline: Deadline) -> Samples:  # noqa: ARG001
    """(H, W) or (H, W, 3) of the first page, in the types of the table in `convert`.

    The deadline is looked at before each strip or tile.
    """
    import tifffile

    layout, _ = read_directory(io.BytesIO(data), len(data))
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        page = file.pages.first
        samples = _segments(data, page, layout, deadline)
        return _interpret(samples, layout, page)


def _segments(data: bytes, page: tifffile.TiffPage, layout: Layout, deadline: Deadline) -> Samples:
    """The page's samples, (H, W, S), from its strips or tiles."""
    planes, contiguous = (layout.samples, 1) if layout.planar else (1, layout.samples)
    if page.shaped != (planes, 1, layout.height, layout.width, contiguous) or page.dtype is None:
        raise corrupt(f"stored as {page.shaped} of {page.dtype}, which its tags do not say")
    samples: Samples = np.zeros(page.shaped, page.dtype)
    n_segments = math.prod(page.chunked)
    extents = list(zip(page.dataoffsets, page.databytecounts, strict=False))
    if len(extents) < n_segments:
        raise corrupt(f"{len(extents)} strips or tiles of {n_segments}")
    tables = {"jpegtables": page.jpegtables} if layout.compression == JPEG else {}
    for index, (offset, length) in enumerate(extents[:n_segments]):
        deadline.check()
        if length == 0 or offset + length > len(data):
            raise truncated(f"its strip or tile {index}")
        stored = data[offset : offset + length]
        if layout.compression == JPEG:
            _check_jpeg(stored, layout.segment_shape)
        _place(samples, page.decode(stored, index, **tables))
    return np.moveaxis(samples[:, 0, :, :, 0], 0, -1) if layout.planar else samples[0, 0]


def _place(samples: Samples, decoded: tuple[Any, tuple[int, ...], tuple[int, ...]]) -> None:
    """Copy one decoded strip or tile into `samples` (planes, depth, H, W, S); edges are cut."""
    segment, (plane, depth, y, x, _), (_, height, width, _) = decoded
    target = samples[plane, depth, y : y + height, x : x + width]
    part = segment[0, : target.shape[0], : target.shape[1]]
    if part.shape != target.shape:
        raise corrupt(f"strip or tile of {part.shape} where {target.shape} is due")
    target[...] = part


def _check_jpeg(stored: bytes, shape: tuple[int, int]) -> None:
    """Refuse what the decoder would allocate, repeat or fill with grey without a word."""
    header = jpeg.inspect(io.BytesIO(stored), len(stored))
    if header.height > shape[0] or header.width > shape[1]:
        raise corrupt(f"JPEG of {header.shape} in a strip or tile of {shape}")
    jpeg.check_complete(stored)
    if jpeg.has_many_scans(stored):
        raise corrupt("a JPEG of many scans within a TIFF")


def _interpret(samples: Samples, layout: Layout, page: tifffile.TiffPage) -> Samples:
    """Stored samples (H, W, S) to grey or RGB, by the table in `convert`."""
    samples = samples[:, :, : layout.samples - layout.alpha]
    if layout.photometric == PALETTE:
        if page.colormap is None:
            raise corrupt("a palette image without its palette")
        return colours(samples[:, :, 0], page.colormap)
    if layout.photometric == CMYK:
        return rgb_from_cmyk(samples)
    bits = layout.bits
    if bits < 8:
        samples, bits = full_range(samples, bits), 8
    if layout.photometric == WHITE_IS_ZERO and samples.dtype.kind in "iu":
        samples = inverted(samples, bits)
    return samples
