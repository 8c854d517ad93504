"""The pixels of an image that has a result, read again: by part, and in the sizes of its masks.

An ordinary image is decoded once and whole. Of a large one (see `store.snapshot.is_large`) no more
is in memory than what is asked for. Its level k is half as high and wide as level k - 1: a pixel is
the mean of 2**k x 2**k pixels of the image; where the file has such a level itself, or one not much
larger, it is taken from there.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from math import ceil

import numpy as np
import numpy.typing as npt

from segpipe.compiled import compiled, readable
from segpipe.errors import InputError, Reason
from segpipe.geometry import Box
from segpipe.readers import Reader
from segpipe.readers.regions import RegionLimits, RegionSource, open_regions
from segpipe.records import DecodedImage, ImageRef, Pixels
from segpipe.report.display import Contrast, contrast
from segpipe.spec import Limits
from segpipe.store.ome_zarr import level_shape
from segpipe.store.snapshot import Row, is_large

Shape = tuple[int, int]

OVERVIEW = 2048
"""Longer side, at most, of a large image where it is shown as a whole, pixels."""

_BLOCK = 1024, 16384
"""(height, width) of what is read of a large image at a time: wide, as the strips of files are."""

_SPOTS = 16
_SPOT = 64
"""Squares of a large image that say how bright it is: so many down and across, and their side."""

_KEPT_BYTES = 1 << 28
_SECONDS = 60.0


class Source(ABC):
    """An image that is open.

    Attributes:
        path: in its collection.
        shape: (height, width).
    """

    def __init__(self, path: str, shape: Shape) -> None:
        self.path, self.shape = path, shape

    @property
    def whole(self) -> Box:
        return Box(0, 0, *self.shape)

    def level_shape(self, level: int) -> Shape:
        """(height, width) of a level, as of the masks."""
        return level_shape(self.shape, level)

    @abstractmethod
    def read(self, part: Box, level: int = 0) -> Pixels:
        """(h, w, C) of a part of a level, inside of it; not to be written to.

        Raises:
            InputError: what is needed is damaged, or over a limit.
        """

    @property
    @abstractmethod
    def contrast(self) -> Contrast | None:
        """What becomes black and white, for any part and level; see `display.contrast`."""

    @abstractmethod
    def cost(self, level: int) -> int:
        """Pixels that are read for one of a level, along one axis: 1, 2, 4, ..."""


class WholeImage(Source):
    """One that is in memory; it has one level."""

    def __init__(self, path: str, image: DecodedImage) -> None:
        super().__init__(path, image.header.shape)
        self.pixels = image.pixels

    def read(self, part: Box, level: int = 0) -> Pixels:
        return halved(self.pixels[part_of_level(part, level, self.shape).slices], level)

    @cached_property
    def contrast(self) -> Contrast | None:
        return contrast(self.pixels)

    def cost(self, level: int) -> int:
        return int(2**level)


class LargeImage(Source):
    """One that is read by region."""

    def __init__(self, path: str, regions: RegionSource) -> None:
        super().__init__(path, regions.header.shape)
        self._regions = regions
        self._levels = dict(_halvings(regions))

    def cost(self, level: int) -> int:
        return int(2 ** (level - self._from(level)))

    def read(self, part: Box, level: int = 0) -> Pixels:
        source = self._from(level)
        times = 2 ** (level - source)
        header = self._regions.header
        pixels = np.empty((part.height, part.width, header.channels), header.dtype)
        height, width = (max(1, side // times) for side in _BLOCK)
        for block in part.blocks(height, width):
            found = self._region(block, level - source, source)
            pixels[block.shift(-part.y0, -part.x0).slices] = halved(found, level - source)
        return pixels

    @cached_property
    def contrast(self) -> Contrast | None:
        header = self._regions.header
        if header.dtype == "uint8" and header.channels == 3:
            return None
        height, width = min(_SPOT, self.shape[0]), min(_SPOT, self.shape[1])
        tops = np.linspace(0, self.shape[0] - height, _SPOTS).astype(int).tolist()
        lefts = np.linspace(0, self.shape[1] - width, _SPOTS).astype(int).tolist()
        rows = [
            np.concatenate(
                [self._regions.read(Box(y, x, y + height, x + width)) for x in lefts], axis=1
            )
            for y in tops
        ]
        return contrast(np.concatenate(rows))

    def _from(self, level: int) -> int:
        """The halving in the file that a level is made of."""
        return max(one for one in self._levels if one <= level)

    def _region(self, part: Box, below: int, source: int) -> Pixels:
        """What of a halving in the file becomes a part of the level that many further `below`."""
        number, shape = self._levels[source]
        box = part_of_level(part, below, self.level_shape(source))
        there = box.clip(shape)
        if there.empty:  # the file's level lacks the last row or column, being rounded down
            there = Box(min(box.y0, shape[0] - 1), min(box.x0, shape[1] - 1), box.y1, box.x1).clip(
                shape
            )
        pixels = self._regions.read(there, number)
        short = box.height - there.height, box.width - there.width
        return np.pad(pixels, ((0, short[0]), (0, short[1]), (0, 0)), mode="edge")


@contextmanager
def open_source(row: Row, reader: Reader | None = None) -> Iterator[Source]:
    """The image of a row of `images`; of a failed one, whatever is there now, whole.

    Args:
        reader: for one that is not large; None for one with the limits of `limits_of`.

    Raises:
        InputError: it cannot be read, or is not the one that was segmented.
    """
    if row["status"] == "ok" and is_large(row):
        with open_large(row) as regions:
            yield LargeImage(row["path"], regions)
    elif reader is not None:
        yield WholeImage(row["path"], read_again(reader, row))
    else:
        yield WholeImage(row["path"], read_source(row))


def open_large(row: Row) -> RegionSource:
    """The image of an `ok` row; to be closed.

    Raises:
        InputError: as `open_source`.
    """
    ref = ImageRef.of_row(row)
    pixels = row["height"] * row["width"]
    limits = RegionLimits(
        max_pixels=max(pixels, RegionLimits().max_pixels),
        kept_bytes=_KEPT_BYTES,
        decode_seconds=_SECONDS,
    )
    regions = open_regions(ref, limits)
    try:
        header = regions.header
        about = header.shape, header.dtype, header.channels
        if about != ((row["height"], row["width"]), row["dtype"], row["channels"]):
            raise _changed(row)
        with Reader(limits_of(row)) as reader:
            # Its hash takes a look at all of it: not where it is the file that was listed.
            if not reader.unchanged(ref) and reader.sha256(ref) != row["sha256"]:
                raise _changed(row)
    except BaseException:
        regions.close()
        raise
    return regions


def read_source(row: Row) -> DecodedImage:
    """The pixels that a result was made from, read again, whole.

    Raises:
        InputError: it cannot be read, or its bytes are others than those that were segmented.
    """
    with Reader(limits_of(row)) as reader:
        return read_again(reader, row)


def limits_of(*rows: Row) -> Limits:
    """What an image with a result may cost to be read again: no less than it did then."""
    known = Limits()
    pixels = max((row["height"] * row["width"] for row in rows if row["height"]), default=0)
    size = max((row["size_bytes"] for row in rows), default=0)
    return known.model_copy(
        update={
            "max_pixels": max(known.max_pixels, pixels),
            "max_file_bytes": max(known.max_file_bytes, size),
        }
    )


def read_again(reader: Reader, row: Row) -> DecodedImage:
    """The same with a reader that is open; of an image that failed, whatever is there now."""
    image = reader.read(ImageRef.of_row(row))
    if row["sha256"] not in (None, image.sha256):
        raise _changed(row)
    return image


def overview_level(shape: Shape, side: int) -> int:
    """The largest level of an image whose longer side is `side` pixels at most."""
    level = 0
    while ceil(max(shape) / 2**level) > side:
        level += 1
    return level


def part_of_level(part: Box, level: int, shape: Shape) -> Box:
    """The pixels of an image of `shape` (H, W) that become a part of its level."""
    times = 2**level
    return Box(part.y0 * times, part.x0 * times, part.y1 * times, part.x1 * times).clip(shape)


def halved(pixels: Pixels, times: int) -> Pixels:
    """(h, w, C) with half the height and width, so many times over, rounded up: means.

    At its end, a square that is not whole has its last row or column more than once.
    """
    if not times:
        return pixels
    known = np.float32 if pixels.dtype == np.float16 else pixels.dtype
    mean = _means(readable(pixels, known), 2**times)
    exact = np.rint(mean) if np.issubdtype(pixels.dtype, np.integer) else mean
    return exact.astype(pixels.dtype)


@compiled
def _means(pixels: Pixels, side: int) -> npt.NDArray[np.float64]:
    height, width, channels = pixels.shape
    means = np.zeros((-(-height // side), -(-width // side), channels))
    for y in range(means.shape[0] * side):
        for x in range(means.shape[1] * side):
            for channel in range(channels):
                value = pixels[min(y, height - 1), min(x, width - 1), channel]
                means[y // side, x // side, channel] += value / side**2
    return means


def _halvings(regions: RegionSource) -> Iterator[tuple[int, tuple[int, Shape]]]:
    """How often halved -> (number, shape) of the levels of a file that are so, up to rounding."""
    height, width = regions.header.shape
    for number, level in enumerate(regions.levels):
        times = round(np.log2(max(height, width) / max(level.shape)))
        wanted = height / 2**times, width / 2**times
        if all(abs(a - b) < 1 for a, b in zip(level.shape, wanted, strict=True)):
            yield times, (number, level.shape)


def _changed(row: Row) -> InputError:
    return InputError(
        Reason.READ_ERROR, f"{row['path']} changed since it was segmented; run it again"
    )
