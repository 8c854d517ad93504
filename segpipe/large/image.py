"""A large image, open."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from segpipe.errors import InputError, Reason
from segpipe.geometry import Box
from segpipe.readers.regions import RegionLimits, RegionSource, open_regions
from segpipe.records import DecodedImage, Header, ImageRef
from segpipe.spec import SegmentSpec


@dataclass(frozen=True, slots=True)
class LargeImage:
    """An image that is read by region."""

    ref: ImageRef
    header: Header
    source: RegionSource

    @property
    def georeference(self) -> dict[str, Any] | None:
        """Where on Earth it lies, plain JSON."""
        found = self.source.georeference
        return None if found is None else found.to_dict()

    def part(self, box: Box) -> DecodedImage:
        """A region as an image of its own.

        Raises:
            InputError: what the region needs is damaged, or over a limit.
        """
        pixels, n_nonfinite = self.source.region(box)
        return DecodedImage(pixels, self.header.of_part(box), "", n_nonfinite)


def is_large(header: Header, spec: SegmentSpec) -> bool:
    """Whether an image is looked at part by part."""
    return spec.tiles is not None and header.height * header.width > spec.limits.max_pixels


@contextmanager
def opened(ref: ImageRef, shape: tuple[int, int], limits: RegionLimits) -> Iterator[LargeImage]:
    """The image, in the block.

    Args:
        shape: (height, width) that it had before.

    Raises:
        InputError: it cannot be read by region, or is another one than before.
    """
    with open_regions(ref, limits) as source:
        if source.header.shape != shape:
            raise InputError(Reason.READ_ERROR, "the file was replaced while it was read")
        yield LargeImage(ref, source.header, source)
