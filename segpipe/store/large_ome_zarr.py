"""The same group as `ome_zarr` writes, of an image that is never in memory: block by block."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr

from segpipe.geometry import Box
from segpipe.records import Pixels
from segpipe.store.ome_zarr import (
    CHUNK,
    VERSION,
    LabelImage,
    Plane,
    axes,
    channels,
    count_levels,
    create_level,
    image_label,
    level_shape,
    mean_of_four,
    multiscale,
)


@dataclass(frozen=True, slots=True)
class LargePixels:
    """The pixels of a large image.

    Attributes:
        shape: (height, width).
        channels: 1 or 3.
        dtype: numpy name.
        read: (h, w, C) of a part.
    """

    shape: tuple[int, int]
    channels: int
    dtype: str
    read: Callable[[Box], Pixels]


@dataclass(frozen=True, slots=True)
class LargeLabels:
    """A label image of a large image.

    Attributes:
        dtype: numpy name.
        read: (h, w) of a part of a level.
        about: its colours and properties; its own `labels` are not looked at.
    """

    dtype: str
    read: Callable[[Box, int], npt.NDArray[np.unsignedinteger[Any]]]
    about: LabelImage


def write_large_ome_zarr(
    folder: Path, name: str, pixels: LargePixels, label_images: Mapping[str, LargeLabels]
) -> None:
    """Write a new group; as `write_ome_zarr`."""
    root = zarr.create_group(folder, zarr_format=3)
    levels = count_levels(pixels.shape)
    all_axes = [{"name": "c", "type": "channel"}, *axes()]
    between = _write_pixels(root, pixels, levels)
    root.attrs["ome"] = {
        "version": VERSION,
        "multiscales": [multiscale(name, all_axes, levels)],
        "omero": {"channels": channels(np.dtype(pixels.dtype), pixels.channels, between)},
    }
    labels = root.create_group("labels")
    labels.attrs["ome"] = {"version": VERSION, "labels": list(label_images)}
    for label_name, image in label_images.items():
        group = labels.create_group(label_name)
        for level in range(levels):
            shape = level_shape(pixels.shape, level)
            array = create_level(group, level, shape, np.dtype(image.dtype))
            for block in Box(0, 0, *shape).blocks(CHUNK, CHUNK):
                array[block.slices] = image.read(block, level)
        group.attrs["ome"] = {
            "version": VERSION,
            "multiscales": [multiscale(label_name, axes(), levels)],
            "image-label": image_label(image.about),
        }


def _write_pixels(root: zarr.Group, pixels: LargePixels, levels: int) -> tuple[float, float]:
    """The smallest and the largest value."""
    low, high = np.inf, -np.inf
    larger: zarr.Array[Any] | None = None
    for level in range(levels):
        shape = level_shape(pixels.shape, level)
        array = create_level(root, level, (pixels.channels, *shape), np.dtype(pixels.dtype))
        for block in Box(0, 0, *shape).blocks(CHUNK, CHUNK):
            if larger is None:
                part: Plane = np.moveaxis(pixels.read(block), 2, 0)
                low, high = min(low, float(part.min())), max(high, float(part.max()))
            else:
                twice = Box(2 * block.y0, 2 * block.x0, 2 * block.y1, 2 * block.x1)
                rows, columns = twice.clip(level_shape(pixels.shape, level - 1)).slices
                part = mean_of_four(np.asarray(larger[:, rows, columns]))
            rows, columns = block.slices
            array[:, rows, columns] = part
        larger = array
    return low, high
