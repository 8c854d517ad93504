"""The strips or tiles of a page of a TIFF, decoded by tifffile and imagecodecs one at a time."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from segpipe.geometry import Box
from segpipe.readers import jpeg
from segpipe.readers.convert import Samples
from segpipe.readers.deadline import Deadline
from segpipe.readers.structure import corrupt, truncated
from segpipe.readers.tiff_directory import JPEG, NONE, Layout

if TYPE_CHECKING:
    import tifffile

Read = Callable[[int, int], bytes]
"""The bytes at (position, length) of the file; fewer where it ends."""


@dataclass(frozen=True, slots=True, eq=False)
class Segment:
    """A decoded strip or tile.

    Attributes:
        samples: (h, w, S), at least as much as the image has there.
        plane: of separate planes, otherwise 0.
        box: where it lies in the page; it may reach beyond.
    """

    samples: Samples
    plane: int
    box: Box


class Segments:
    """Of one page; `decoded` may be called from several threads where `read` may.

    Args:
        page: as tifffile understands it, which must be as `layout` says.
        read: reads the file.

    Attributes:
        shape: (height, width) of a strip or tile.
    """

    def __init__(self, page: tifffile.TiffPage, layout: Layout, read: Read) -> None:
        planes, contiguous = (layout.samples, 1) if layout.planar else (1, layout.samples)
        if page.shaped != (planes, 1, layout.height, layout.width, contiguous):
            raise corrupt(f"stored as {page.shaped}, which its tags do not say")
        if page.dtype is None:
            raise corrupt("samples of no type")
        if 0 in layout.segment_shape:
            raise corrupt(f"strips or tiles of {layout.segment_shape} pixels")
        self._layout, self._read = layout, read
        self.shape = layout.segment_shape
        self._planes, self._contiguous = planes, contiguous
        self._dtype = page.dtype
        self._grid = tuple(
            -(-whole // part)
            for whole, part in zip((layout.height, layout.width), layout.segment_shape, strict=True)
        )
        n_segments = planes * self._grid[0] * self._grid[1]
        self._extents = list(zip(page.dataoffsets, page.databytecounts, strict=False))
        if len(self._extents) < n_segments:
            raise corrupt(f"{len(self._extents)} strips or tiles of {n_segments}")
        self._decode = page.decode
        self._rows: np.dtype[Any] | None = None
        self._is_plain = (
            layout.compression == NONE
            and page.predictor == page.fillorder == 1
            and layout.bits == 8 * page.dtype.itemsize
        )
        self._order = page.parent.byteorder
        self._tables = {"jpegtables": page.jpegtables} if layout.compression == JPEG else {}

    @property
    def decoded_bytes(self) -> int:
        """Of one strip or tile, in memory."""
        height, width = self.shape
        return height * width * self._contiguous * self._dtype.itemsize

    @property
    def most_stored_bytes(self) -> int:
        """Of one strip or tile, in the file."""
        return max(length for _, length in self._extents)

    def split(self, most_bytes: int) -> None:
        """Take groups of rows for strips, where a whole plane is one strip of plain numbers."""
        height, width = self.shape
        row = width * self._contiguous * self._dtype.itemsize
        rows = max(1, most_bytes // row)
        extents = self._extents[: self._planes]
        one_strip = self._is_plain and not self._layout.tiled and self._grid == (1, 1)
        if not one_strip or rows >= height or any(length < height * row for _, length in extents):
            return
        self._extents = [
            (offset + start * row, min(rows, height - start) * row)
            for offset, _ in extents
            for start in range(0, height, rows)
        ]
        self.shape, self._grid = (rows, width), (-(-height // rows), 1)
        self._rows = self._dtype.newbyteorder(self._order)

    def samples(
        self, box: Box, deadline: Deadline, decoded: Callable[[int], Segment] | None = None
    ) -> Samples:
        """(h, w, S) in `box` of the page, from those strips or tiles that it meets.

        The deadline is looked at before each of them.

        Args:
            decoded: in place of `decoded` of this page, one that remembers.

        Raises:
            InputError: one is truncated or damaged, or the time has passed.
        """
        whole: Samples = np.zeros(
            (self._planes, box.height, box.width, self._contiguous), self._dtype
        )
        for index in self.meeting(box):
            deadline.check()
            self._place((decoded or self.decoded)(index), box, whole)
        return np.moveaxis(whole[..., 0], 0, -1) if self._layout.planar else whole[0]

    def meeting(self, box: Box) -> Iterator[int]:
        """Numbers of the strips or tiles that `box` meets."""
        if box.empty:
            return
        down, across = self._grid
        height, width = self.shape
        rows = range(box.y0 // height, (box.y1 - 1) // height + 1)
        columns = range(box.x0 // width, (box.x1 - 1) // width + 1)
        for plane, row, column in product(range(self._planes), rows, columns):
            yield (plane * down + row) * across + column

    def decoded(self, index: int) -> Segment:
        """
        Raises:
            InputError: it is truncated or damaged; or whatever a decoder raises.
        """
        offset, length = self._extents[index]
        stored = self._read(offset, length) if length > 0 else b""
        if not length or len(stored) < length:
            raise truncated(f"its strip or tile {index}")
        if self._rows is not None:
            return self._plain_rows(index, stored, self._rows)
        if self._layout.compression == JPEG:
            _check_jpeg(stored, self._layout.segment_shape)
        samples, (plane, _, y, x, _), (_, height, width, _) = self._decode(
            stored, index, **self._tables
        )
        if samples is None:
            raise corrupt(f"strip or tile {index} without pixels")
        return Segment(samples[0], plane, Box(y, x, y + height, x + width))

    def _plain_rows(self, index: int, stored: bytes, dtype: np.dtype[Any]) -> Segment:
        plane, row = divmod(index, self._grid[0])
        samples = np.frombuffer(stored, dtype).reshape(-1, self.shape[1], self._contiguous)
        y = row * self.shape[0]
        box = Box(y, 0, y + samples.shape[0], self.shape[1])
        return Segment(samples.astype(self._dtype, copy=False), plane, box)

    def _place(self, segment: Segment, box: Box, whole: Samples) -> None:
        """Copy what `box` has of a segment; what reaches beyond the image is cut."""
        inside = segment.box.clip((self._layout.height, self._layout.width))
        if segment.samples.shape[0] < inside.height or segment.samples.shape[1] < inside.width:
            raise corrupt(f"strip or tile of {segment.samples.shape} where {inside} is due")
        common = inside.intersect(box)
        source = common.shift(-segment.box.y0, -segment.box.x0)
        target = common.shift(-box.y0, -box.x0)
        whole[segment.plane][target.slices] = segment.samples[source.slices]


def _check_jpeg(stored: bytes, shape: tuple[int, int]) -> None:
    """Refuse what the decoder would allocate, repeat or fill with grey without a word."""
    header = jpeg.inspect(io.BytesIO(stored), len(stored))
    if header.height > shape[0] or header.width > shape[1]:
        raise corrupt(f"JPEG of {header.shape} in a strip or tile of {shape}")
    jpeg.check_complete(stored)
    if jpeg.has_many_scans(stored):
        raise corrupt("a JPEG of many scans within a TIFF")
