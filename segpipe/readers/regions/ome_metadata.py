"""What the metadata of an OME-Zarr says of its first image."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from segpipe.errors import InputError, Reason
from segpipe.readers.ome_xml import micrometres
from segpipe.readers.regions.zarr_chunks import ZarrFolder
from segpipe.readers.regions.zarr_layout import ArrayLayout, array_layout
from segpipe.readers.structure import corrupt

_MAX_LEVELS = 64
_AXES = "tczyx"


@dataclass(frozen=True, slots=True)
class Dataset:
    """One level: the path of its array in the folder, and how that is stored."""

    path: str
    layout: ArrayLayout


@dataclass(frozen=True, slots=True)
class Multiscale:
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
    datasets: tuple[Dataset, ...]
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


def read_multiscale(folder: ZarrFolder, path: str) -> Multiscale:
    """The first image of the group at `path`.

    Raises:
        InputError: there is none, it makes no sense, or is stored in a way that is not read.
    """
    zarr_format = 3 if _is_format_3(path) else 2
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
    return Multiscale(axes, units, scale, datasets, metadata)


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


def _dataset(folder: ZarrFolder, raw: Any, zarr_format: int) -> Dataset:
    path = raw.get("path") if isinstance(raw, dict) else None
    if not isinstance(path, str) or not path.strip("/."):
        raise corrupt(f"OME-Zarr with a dataset {raw!r:.80}")
    name = "zarr.json" if zarr_format == 3 else ".zarray"
    return Dataset(path, array_layout(folder.metadata(f"{path}/{name}"), zarr_format))


def _check_levels(datasets: Sequence[Dataset], axes: str) -> None:
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


def _is_format_3(path: str) -> bool:
    return os.path.isfile(os.path.join(path, "zarr.json"))  # noqa: PTH113, PTH118
