"""TIFF 6.0 and BigTIFF: the first page, its strips or tiles decoded by tifffile and imagecodecs."""

from __future__ import annotations

import io
from typing import BinaryIO

from segpipe.geometry import Box
from segpipe.readers.convert import (
    Samples,
    colours,
    full_range,
    inverted,
    rgb_from_cmyk,
    upright_shape,
)
from segpipe.readers.deadline import Deadline
from segpipe.readers.structure import corrupt
from segpipe.readers.tiff_directory import (
    CMYK,
    PALETTE,
    WHITE_IS_ZERO,
    Directories,
    Layout,
    layout_of,
)
from segpipe.readers.tiff_pixel_size import tiff_pixel_size
from segpipe.readers.tiff_segments import Segments
from segpipe.records import Header

SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def inspect(file: BinaryIO, size: int) -> Header:
    """Header of the first page; pages are counted by following their chain, loops included."""
    import tifffile

    directories = Directories(file, size)
    tags, following = directories.read(directories.first)
    layout, n_pages = layout_of(tags), len(directories.chain(following))
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
        pixel_size_um=tiff_pixel_size(directories, layout),
    )


def decode(data: bytes, header: Header, deadline: Deadline) -> Samples:  # noqa: ARG001
    """(H, W) or (H, W, 3) of the first page, in the types of the table in `convert`.

    The deadline is looked at before each strip or tile.
    """
    import tifffile

    directories = Directories(io.BytesIO(data), len(data))
    layout = layout_of(directories.read(directories.first)[0])
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        page = file.pages.first
        segments = Segments(page, layout, lambda offset, length: data[offset : offset + length])
        samples = segments.samples(Box(0, 0, layout.height, layout.width), deadline)
        return interpret(samples, layout, page.colormap)


def interpret(samples: Samples, layout: Layout, colour_map: Samples | None) -> Samples:
    """Stored samples (H, W, S) to grey or RGB, by the table in `convert`, pixel by pixel.

    Args:
        colour_map: (3, N) uint16, of a palette image.
    """
    samples = samples[:, :, : layout.samples - layout.alpha]
    if layout.photometric == PALETTE:
        if colour_map is None:
            raise corrupt("a palette image without its palette")
        return colours(samples[:, :, 0], colour_map)
    if layout.photometric == CMYK:
        return rgb_from_cmyk(samples)
    bits = layout.bits
    if bits < 8:
        samples, bits = full_range(samples, bits), 8
    if layout.photometric == WHITE_IS_ZERO and samples.dtype.kind in "iu":
        samples = inverted(samples, bits)
    return samples
