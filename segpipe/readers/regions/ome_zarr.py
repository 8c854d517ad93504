"""OME-Zarr 0.4 and 0.5 (https://ngff.openmicroscopy.org) in a folder, read by region."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any, BinaryIO

import numpy as np

from segpipe.errors import InputError, Reason
from segpipe.geometry import Box
from segpipe.readers.convert import Samples
from segpipe.readers.deadline import Deadline
from segpipe.readers.ome_xml import micrometres
from segpipe.readers.planes import MAX_CHANNELS, Extent, Plane
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
from segpipe.readers.regions.zarr_layout import ArrayLayout, array_layout
from segpipe.readers.structure import bounded, corrupt
from segpipe.records import Header

_MAX_LEVELS = 64
_AXES = "tczyx"


@dataclass(frozen=True, slots=True)
class _Dataset:
    """One level: the path of its array in the folder, and how that is stored."""

    path: str
    layout: ArrayLayout

    @property
    def plane_grid(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """(height, width) of the level, and of a chunk."""
        return self.layout.shape[-2:], self.layout.chunk[-2:]


@dataclass(frozen=True, slots=True)
class _Multiscale:
    """The image that the metadata tells of.

    Attributes:
        axes: one letter for each, the last two are `y` and `x`.
        scale: of level 0, by axis; empty where there is none.
        metadata: names of the files that say so.
        units: by axis, empty where there is none.
    """

    axes: str
    units: tuple[str, ...]
    scale: tuple[float, ...]
    datasets: tuple[_Dataset, ...]
    metadata: tuple[str, ...]

    def size(self, axis: str) -> int:
        place = self.axes.find(axis)
        return self.datasets[0].layout.shape[place] if place >= 0 else 1

    @property
    def pixel_size_um(self) -> tuple[float, float] | None:
        if not self.scale:
            return None
        y, x = (micrometres(self.scale[axis], self.units[axis]) for axis in (-2, -1))
        return (y, x) if y and x else None


class OmeZarrSource(RegionSource):
    """An OME-Zarr; chunks are decoded as regions meet them, and those decoded last are kept."""

    def __init__(
        self,
        folder: ZarrFolder,
        image: _Multiscale,
        plane: Plane,
        about: About,
        limits: RegionLimits,
        name: str,
    ) -> None:
        super().__init__(name, about, limits)
        self._folder, self._image, self._plane = folder, image, plane
        self._recent: Recent[Samples] = Recent(limits.memory_bytes, lambda chunk: chunk.nbytes)

    def close(self) -> None:
        self._recent.clear()

    def files(self) -> Iterator[str]:
        """What is read for level 0 of the plane, as far as it is there, sorted by the bytes of the
        names: metadata, and the files of chunks, each once.

        Raises:
            InputError: it has more chunks than are walked; some of it leads out of the folder.
        """
        first = self._image.datasets[0]
        chunks = (chunk_file(first.path, first.layout, place) for place in self._places(first))
        names = {*self._image.metadata, *chunks}
        return self._folder.present(sorted(names, key=os.fsencode))

    def open_file(self, name: str) -> tuple[BinaryIO, int]:
        """One of `files`, and its size in bytes."""
        return self._folder.open(name)

    def _places(self, dataset: _Dataset) -> Iterator[tuple[int, ...]]:
        rows, columns = (
            range(-(-size // part)) for size, part in zip(*dataset.plane_grid, strict=True)
        )
        channels = self._plane.c or ()
        bounded(len(rows) * len(columns) * len(channels), "chunks in a plane")
        for channel, row, column in product(channels, rows, columns):
            yield self._place(dataset, channel, row, column)[0]

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

    def _chunk(self, dataset: _Dataset, channel: int, row: int, column: int) -> Samples:
        """(h, w) of the chunk at `row` and `column`, of the chosen plane."""
        place, inner = self._place(dataset, channel, row, column)
        make = partial(self._folder.chunk, dataset.path, dataset.layout, place)
        chunk = self._recent.get((dataset.path, place), make)
        part: Samples = chunk[inner]
        return part

    def _place(
        self, dataset: _Dataset, channel: int, row: int, column: int
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
    image = _multiscale(folder, 3 if _is_format_3(path) else 2)
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


def _is_format_3(path: str) -> bool:
    return os.path.isfile(os.path.join(path, "zarr.json"))  # noqa: PTH113, PTH118


def _multiscale(folder: ZarrFolder, zarr_format: int) -> _Multiscale:
    """The first image of the group."""
    if zarr_format == 3:
        attributes = folder.metadata("zarr.json").get("attributes")
        about = attributes.get("ome") if isinstance(attributes, dict) else None
    else:
        about = folder.metadata(".zattrs")
    found = about.get("multiscales") if isinstance(about, dict) else None
    if not isinstance(found, list) or not found or not isinstance(found[0], dict):
        raise InputError(
            Reason.UNSUPPORTED_FORMAT,
            "a Zarr group without an image (multiscales); of a plate, give one of its images",
        )
    axes, units = _axes(found[0].get("axes"))
    listed = found[0].get("datasets")
    if not isinstance(listed, list) or not 0 < len(listed) <= _MAX_LEVELS:
        raise corrupt(f"OME-Zarr with datasets {listed!r:.80}; 1 to {_MAX_LEVELS} are read")
    datasets = tuple(_dataset(folder, one, zarr_format) for one in listed)
    _check_levels(datasets, axes)
    scale = _product(
        _scale(listed[0].get("coordinateTransformations"), len(axes)),
        _scale(found[0].get("coordinateTransformations"), len(axes)),
    )
    root, below = ("zarr.json", "zarr.json") if zarr_format == 3 else (".zattrs", ".zarray")
    metadata = (root, *(f"{one.path}/{below}" for one in datasets))
    return _Multiscale(axes, units, scale, datasets, metadata)


def _axes(raw: object) -> tuple[str, tuple[str, ...]]:
    axes = [one for one in raw if isinstance(one, dict)] if isinstance(raw, list) else []
    names = "".join(str(one.get("name")) for one in axes)
    ordered = "".join(axis for axis in _AXES if axis in names)
    if not names.endswith("yx") or sorted(names) != sorted(ordered):
        raise InputError(
            Reason.UNSUPPORTED_FORMAT,
            f"OME-Zarr with axes {names!r:.40}; t, c and z, as far as there are any, then y, x",
        )
    return names, tuple(str(one.get("unit", "")) for one in axes)


def _dataset(folder: ZarrFolder, raw: Any, zarr_format: int) -> _Dataset:
    path = raw.get("path") if isinstance(raw, dict) else None
    if not isinstance(path, str) or not path.strip("/."):
        raise corrupt(f"OME-Zarr with a dataset {raw!r:.80}")
    name = "zarr.json" if zarr_format == 3 else ".zarray"
    return _Dataset(path, array_layout(folder.metadata(f"{path}/{name}"), zarr_format))


def _check_levels(datasets: Sequence[_Dataset], axes: str) -> None:
    """Levels have one type, the same planes, and become smaller."""
    first = datasets[0].layout
    if len(first.shape) != len(axes):
        raise corrupt(f"OME-Zarr of shape {first.shape} with axes {axes}")
    if 0 in first.shape:
        raise corrupt(f"OME-Zarr of shape {first.shape}")
    before = first.shape
    for dataset in datasets[1:]:
        shape = dataset.layout.shape
        alike = len(shape) == len(axes) and all(
            size == first.shape[place] for place, size in enumerate(shape) if axes[place] in "tc"
        )
        smaller = alike and all(0 < new <= old for new, old in zip(shape, before, strict=True))
        if not smaller or shape[-2:] == before[-2:]:
            raise corrupt(f"OME-Zarr with a level of {shape} after one of {before}")
        if dataset.layout.packing.dtype.newbyteorder("=") != first.packing.dtype.newbyteorder("="):
            raise corrupt("OME-Zarr with levels of different types")
        before = shape


def _scale(raw: object, n_axes: int) -> tuple[float, ...]:
    """Of the transformations of one place; empty where none is a scale."""
    for one in raw if isinstance(raw, list) else ():
        if isinstance(one, Mapping) and one.get("type") == "scale":
            scale = one.get("scale")
            if not isinstance(scale, list) or len(scale) != n_axes:
                raise corrupt(f"OME-Zarr with a scale of {scale!r:.80}")
            if not all(isinstance(size, (int, float)) for size in scale):
                raise corrupt(f"OME-Zarr with a scale of {scale!r:.80}")
            return tuple(map(float, scale))
    return ()


def _product(first: tuple[float, ...], second: tuple[float, ...]) -> tuple[float, ...]:
    if first and second:
        return tuple(a * b for a, b in zip(first, second, strict=True))
    return first or second
