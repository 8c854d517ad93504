"""A large image, open, and how it is cut."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from segpipe.errors import InputError, Reason
from segpipe.geometry import Box
from segpipe.planning.tiles import Tile, Tiling, plan_tiles
from segpipe.readers.regions import RegionLimits, RegionSource, open_regions
from segpipe.records import DecodedImage, Header, ImageRef
from segpipe.spec import SegmentSpec

ALIGN = 32
"""Parts begin at multiples of the networks' strides: what they see does not depend on the cut."""


@dataclass(frozen=True, slots=True)
class LargeImage:
    """An image that is read by region.

    Attributes:
        tiling: how it is cut; a row of tiles is a unit of work.
    """

    ref: ImageRef
    header: Header
    tiling: Tiling
    source: RegionSource

    @property
    def rows(self) -> int:
        """Rows of tiles."""
        return len(self.tiling.row_borders) - 1

    def tiles_of(self, row: int) -> list[Tile]:
        """A row of tiles, from left to right."""
        first = row * self.tiling.columns
        return [self.tiling[first + column] for column in range(self.tiling.columns)]

    def cores(self) -> Iterator[Box]:
        """Regions that together are the image; no pixel is in two of them."""
        return (tile.core for tile in self.tiling)

    def part(self, box: Box) -> DecodedImage:
        """A region as an image of its own.

        Raises:
            InputError: what the region needs is damaged, or over a limit.
        """
        pixels, n_nonfinite = self.source.region(box)
        return DecodedImage(pixels, part_header(self.header, box), "", n_nonfinite)


def is_large(header: Header, spec: SegmentSpec) -> bool:
    """Whether an image is looked at part by part."""
    return spec.tiles is not None and header.height * header.width > spec.limits.max_pixels


def part_header(header: Header, box: Box) -> Header:
    """Of a region, as if it were an image."""
    return replace(header, height=box.height, width=box.width)


def tiling_of(shape: tuple[int, int], spec: SegmentSpec) -> Tiling:
    """How an image of `shape` (H, W) is cut under a spec that has tiles."""
    assert spec.tiles is not None
    return plan_tiles(shape, spec.tiles.core, spec.tiles.halo, ALIGN)


@contextmanager
def opened(
    ref: ImageRef, shape: tuple[int, int], spec: SegmentSpec, limits: RegionLimits
) -> Iterator[LargeImage]:
    """The image, in the block.

    Args:
        shape: (height, width) that it had before.

    Raises:
        InputError: it cannot be read by region, or is another one than before.
    """
    with open_regions(ref, limits) as source:
        if source.header.shape != shape:
            raise InputError(Reason.READ_ERROR, "the file was replaced while it was read")
        yield LargeImage(ref, source.header, tiling_of(shape, spec), source)
