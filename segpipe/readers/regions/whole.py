"""Formats that know no parts: the whole image is decoded once, when it is first read, and kept."""

from __future__ import annotations

import threading

from segpipe.geometry import Box
from segpipe.readers.convert import Samples
from segpipe.readers.deadline import Deadline
from segpipe.readers.decode import decode, inspect, pixel_bytes
from segpipe.readers.planes import Extent, Plane
from segpipe.readers.regions.shared_file import SharedFile
from segpipe.readers.regions.source import (
    About,
    Level,
    RegionLimits,
    RegionSource,
    check_memory,
)
from segpipe.readers.structure import truncated
from segpipe.records import Header, Pixels
from segpipe.spec import Limits


class WholeSource(RegionSource):
    """PNG, JPEG, WebP, BMP, PPM, GIF: in memory from the first region on."""

    def __init__(self, file: SharedFile, header: Header, limits: RegionLimits, name: str) -> None:
        about = About(header, (Level.of(header.shape, header.shape),))
        super().__init__(name, about, limits, orientation=1)  # `decode` has turned it
        self._file = file
        self._lock = threading.Lock()
        self._pixels: Pixels | None = None

    def close(self) -> None:
        self._pixels = None
        self._file.close()

    def _samples(self, box: Box, level: int, deadline: Deadline) -> Samples:  # noqa: ARG002
        with self._lock:
            if self._pixels is None:
                self._pixels = self._decoded()
            return self._pixels[box.slices]

    def _decoded(self) -> Pixels:
        data = self._file.read(0, self._file.size)
        if len(data) < self._file.size:
            raise truncated(f"its {self._file.size:,} bytes, after {len(data):,}")
        return decode(data, _limits(self.limits)).pixels


def open_whole(
    file: SharedFile, plane: Plane | None, limits: RegionLimits, name: str
) -> WholeSource:
    """
    Raises:
        InputError: as `decode.inspect`; without this plane; or the image and its file take more
            than `memory_bytes`.
    """
    header = inspect(file.file, file.size, _limits(limits))
    (plane or Plane()).within(Extent())
    needed = pixel_bytes(header) + file.size
    check_memory(
        needed,
        f"a {header.format} has no parts: decoding all of {header.height:,} x {header.width:,}"
        " pixels (a tiled TIFF or an OME-Zarr is read by region)",
        limits,
    )
    return WholeSource(file, header, limits, name)


def _limits(limits: RegionLimits) -> Limits:
    return Limits(
        max_pixels=limits.max_pixels,
        max_file_bytes=limits.max_file_bytes,
        decode_seconds=limits.decode_seconds,
    )
