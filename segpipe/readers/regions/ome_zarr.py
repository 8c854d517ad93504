"""OME-Zarr 0.4 and 0.5 (https://ngff.openmicroscopy.org) in a folder, read by region."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial
from itertools import product
from typing import BinaryIO

import numpy as np

from segpipe.errors import InputError, Reason
from segpipe.geometry import Box
from segpipe.readers.convert import Samples
from segpipe.readers.deadline import Deadline
from segpipe.readers.planes import MAX_CHANNELS, Extent, Plane
from segpipe.readers.regions.ome_metadata import Dataset, Multiscale, read_multiscale
from segpipe.readers.regions.recent import Recent
from segpipe.readers.regions.source import (
    About,
    Level,
    RegionLimits,
    RegionSource,
    check_memory,
    check_size,
)
from segpipe.readers.regions.zarr_chunks import ZarrFolder, chunk_file
from segpipe.records import Header


class OmeZarrSource(RegionSource):
    """An OME-Zarr; chunks are decoded as regions meet them, and those decoded last are kept."""

    def __init__(
        self,
        folder: ZarrFolder,
        image: Multiscale,
        plane: Plane,
        about: About,
        limits: RegionLimits,
        name: str,
    ) -> None:
        super().__init__(name, about, limits)
        self._folder, self._image, self._plane = folder, image, plane
        self._recent: Recent[Samples] = Recent(limits.kept_bytes, lambda chunk: chunk.nbytes)

    def close(self) -> None:
        self._recent.clear()

    @property
    def held_bytes(self) -> int:
        """The chunks that are kept, which may hold other planes, and the one that is decoded."""
        one = self._image.datasets[0].layout.chunk_bytes
        return min(self.limits.memory_bytes, self.n_chunks * one) + one

    @property
    def n_chunks(self) -> int:
        """That all of level 0 of the plane is in; channels of one chunk count each."""
        rows, columns = self._grid(self._image.datasets[0])
        return len(rows) * len(columns) * len(self._plane.c or ())

    def files(self) -> Iterator[str]:
        """What is read for level 0 of the plane, as far as it is there, sorted by the bytes of the
        names: metadata, and the files of chunks, each once.

        Raises:
            InputError: some of it leads out of the folder.
        """
        first = self._image.datasets[0]
        chunks = (chunk_file(first.path, first.layout, place) for place in self._places(first))
        names = {*self._image.metadata, *chunks}
        return self._folder.present(sorted(names, key=os.fsencode))

    def open_file(self, name: str) -> tuple[BinaryIO, int]:
        """One of `files`, and its size in bytes."""
        return self._folder.open(name)

    def _places(self, dataset: Dataset) -> Iterator[tuple[int, ...]]:
        for channel, row, column in product(self._plane.c or (), *self._grid(dataset)):
            yield self._place(dataset, channel, row, column)[0]

    def _grid(self, dataset: Dataset) -> tuple[range, range]:
        """Rows and columns of chunks."""
        (height, width), (down, right) = dataset.layout.shape[-2:], dataset.layout.chunk[-2:]
        return range(-(-height // down)), range(-(-width // right))

    def _samples(self, box: Box, level: int, deadline: Deadline) -> Samples:
        dataset = self._image.datasets[level]
        dtype = dataset.layout.packing.dtype.newbyteorder("=")
        channels = self._plane.c or ()
        whole: Samples = np.empty((box.height, box.width, len(channels)), dtype)
        height, width = dataset.layout.chunk[-2:]
        rows = range(box.y0 // height, (box.y1 - 1) // height + 1)
        columns = range(box.x0 // width, (box.x1 - 1) // width + 1)
        for row, column, (number, channel) in product(rows, columns, enumerate(channels)):
            deadline.check()
            at = Box(row * height, column * width, (row + 1) * height, (column + 1) * width)
            common = at.intersect(box)
            found = self._chunk(dataset, channel, row, column)
            source = common.shift(-at.y0, -at.x0).slices
            whole[(*common.shift(-box.y0, -box.x0).slices, number)] = found[source]
        return whole

    def _chunk(self, dataset: Dataset, channel: int, row: int, column: int) -> Samples:
        """(h, w) of the chunk at `row` and `column`, of the chosen plane."""
        place, inner = self._place(dataset, channel, row, column)
        make = partial(self._folder.chunk, dataset.path, dataset.layout, place)
        chunk = self._recent.get((dataset.path, place), make)
        part: Samples = chunk[inner]
        return part

    def _place(
        self, dataset: Dataset, channel: int, row: int, column: int
    ) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """(place of the chunk, counted in chunks, place of the plane in it)."""
        index = {"t": self._plane.t, "z": self._plane.z, "c": channel}
        outer = [
            divmod(index[axis], size)
            for axis, size in zip(self._image.axes, dataset.layout.chunk, strict=True)
            if axis in index
        ]
        return (*(chunk for chunk, _ in outer), row, column), tuple(inner for _, inner in outer)


def open_ome_zarr(path: str, plane: Plane | None, limits: RegionLimits, name: str) -> OmeZarrSource:
    """
    Args:
        path: of the folder, with `zarr.json` (0.5) or `.zattrs` (0.4) in it.
        plane: None for the first one, of all channels.

    Raises:
        InputError: its metadata makes no sense or leads out of the folder, its codecs or type are
            not read, it is over a limit, or has no such plane.
    """
    import imagecodecs

    folder = ZarrFolder(path, limits)
    image = read_multiscale(folder, path)
    extent = Extent(*(image.size(axis) for axis in "ztc"))
    chosen = (plane or Plane()).within(extent)
    channels = tuple(range(extent.c)) if chosen.c is None else chosen.c
    if chosen.c is None and extent.c not in (1, 3):
        raise InputError(
            Reason.UNSUPPORTED_CHANNELS,
            f"{extent.c} channels; choose up to {MAX_CHANNELS} of them, such as #c=0",
        )
    shapes = [(shape[-2], shape[-1]) for shape in (one.layout.shape for one in image.datasets)]
    first = image.datasets[0].layout.packing.dtype
    height, width = shapes[0]
    header = Header(
        height,
        width,
        channels=len(channels),
        dtype="uint8" if first == np.bool_ else first.name,
        format="ome-zarr",
        decoder=f"imagecodecs {imagecodecs.__version__}",
        n_frames=extent.z * extent.t,
        pixel_size_um=image.pixel_size_um,
    )
    check_size(header, limits)
    for dataset in image.datasets:
        check_memory(dataset.layout.chunk_bytes, "decoding a chunk", limits)
    levels = tuple(Level.of(shape, header.shape) for shape in shapes)
    any_channels = chosen.c is not None
    about = About(header, levels, extent, any_channels=any_channels)
    return OmeZarrSource(folder, image, Plane(chosen.z, chosen.t, channels), about, limits, name)
