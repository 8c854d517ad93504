"""OME-Zarr 0.5 (https://ngff.openmicroscopy.org/0.5/): one image with its label images.

Pyramids halve until the longer side fits `SMALLEST`; labels by the nearest pixel, the image by
the mean of the four that become one. The image and its labels have the same levels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr
from zarr.codecs import ZstdCodec

from segpipe.records import Pixels
from segpipe.store.shards import ZSTD_LEVEL

VERSION = "0.5"
SMALLEST = 256
"""Longer side of the last level, pixels, at most."""

_CHUNK = 1024

Plane = npt.NDArray[Any]


@dataclass(frozen=True, slots=True, eq=False)
class LabelImage:
    """A label image as other programs show it.

    Attributes:
        labels: (H, W) of an unsigned integer type, 0 is background.
        colours: label -> (red, green, blue), 0 to 255.
        properties: of labels, each with its key `label-value`.
    """

    labels: npt.NDArray[np.unsignedinteger[Any]]
    colours: Mapping[int, tuple[int, int, int]]
    properties: Sequence[Mapping[str, Any]] = field(default=())


def write_ome_zarr(
    folder: Path, name: str, pixels: Pixels, label_images: Mapping[str, LabelImage]
) -> None:
    """Write a new group.

    Args:
        folder: where; it must not exist.
        pixels: (H, W, C).
        label_images: by name, of the height and width of `pixels`.
    """
    root = zarr.create_group(folder, zarr_format=3)
    levels = _levels(pixels.shape[:2])
    axes = [{"name": "c", "type": "channel"}, *_axes()]
    planes = np.moveaxis(pixels, 2, 0)
    _write_pyramid(root, planes, levels, _mean_of_four)
    root.attrs["ome"] = {
        "version": VERSION,
        "multiscales": [_multiscale(name, axes, levels)],
        "omero": {"channels": _channels(pixels)},
    }
    labels = root.create_group("labels")
    labels.attrs["ome"] = {"version": VERSION, "labels": list(label_images)}
    for label_name, image in label_images.items():
        group = labels.create_group(label_name)
        _write_pyramid(group, image.labels, levels, _nearest)
        group.attrs["ome"] = {
            "version": VERSION,
            "multiscales": [_multiscale(label_name, _axes(), levels)],
            "image-label": _image_label(image),
        }


def _axes() -> list[dict[str, str]]:
    return [{"name": name, "type": "space"} for name in ("y", "x")]


def _levels(shape: tuple[int, ...]) -> int:
    levels, side = 1, max(shape)
    while side > SMALLEST:
        side = (side + 1) // 2
        levels += 1
    return levels


def _multiscale(name: str, axes: list[dict[str, str]], levels: int) -> dict[str, Any]:
    channels = [1.0] * (len(axes) - 2)
    datasets = [
        {
            "path": str(level),
            "coordinateTransformations": [
                {"type": "scale", "scale": [*channels, 2.0**level, 2.0**level]}
            ],
        }
        for level in range(levels)
    ]
    return {"name": name, "axes": axes, "datasets": datasets}


def _write_pyramid(group: zarr.Group, image: Plane, levels: int, smaller: Any) -> None:
    for level in range(levels):
        if level:
            image = smaller(image)
        height, width = image.shape[-2:]
        array = group.create_array(
            str(level),
            shape=image.shape,
            dtype=image.dtype,
            chunks=(*([1] * (image.ndim - 2)), min(height, _CHUNK), min(width, _CHUNK)),
            compressors=ZstdCodec(level=ZSTD_LEVEL),
            fill_value=0,
            dimension_names=("c", "y", "x")[-image.ndim :],
        )
        array[:] = image


def _nearest(labels: Plane) -> Plane:
    return labels[::2, ::2]


def _mean_of_four(planes: Plane) -> Plane:
    """(C, H, W) to half the height and width, rounded up: the last row and column count twice."""
    height, width = planes.shape[1:]
    even = np.pad(planes, ((0, 0), (0, height % 2), (0, width % 2)), mode="edge")
    quarters = [even[:, y::2, x::2].astype(np.float64) for y in (0, 1) for x in (0, 1)]
    mean = sum(quarter / 4 for quarter in quarters)
    if np.issubdtype(planes.dtype, np.integer):
        mean = np.rint(mean)
    return np.asarray(mean).astype(planes.dtype)


def _channels(pixels: Pixels) -> list[dict[str, Any]]:
    """How to show it: bytes as they are, all else from its smallest to its largest value."""
    colours = ["FF0000", "00FF00", "0000FF"] if pixels.shape[2] == 3 else ["FFFFFF"]
    if pixels.dtype == np.uint8:
        low, high = 0.0, 255.0
    else:
        low, high = float(pixels.min()), float(pixels.max())
    window = {"min": low, "max": high, "start": low, "end": high}
    return [{"color": colour, "window": window, "active": True} for colour in colours]


def _image_label(image: LabelImage) -> dict[str, Any]:
    colours = [
        {"label-value": label, "rgba": [*colour, 255]}
        for label, colour in sorted(image.colours.items())
    ]
    about: dict[str, Any] = {"version": VERSION, "source": {"image": "../../"}}
    if colours:
        about["colors"] = colours
    if image.properties:
        about["properties"] = [dict(one) for one in image.properties]
    return about
