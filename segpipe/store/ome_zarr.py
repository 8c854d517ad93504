"""OME-Zarr 0.5 (https://ngff.openmicroscopy.org/0.5/): one image with its label images.

Pyramids halve until the longer side fits `SMALLEST`. The image and its labels have the same levels,
and these the same grid: a pixel of level k is a square of 2**k pixels of the image, whose centre
scale and translation tell (a coordinate is that of a centre, as ome-zarr-py and ngff-zarr write
it). There the image has the mean, and labels what they have at the pixel nearest to that centre: of
four that are equally near the one below and to the right.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
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

CHUNK = 1024
"""Longest side of a chunk, pixels."""

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
    levels = count_levels(pixels.shape[:2])
    all_axes = [{"name": "c", "type": "channel"}, *axes()]
    planes = np.moveaxis(pixels, 2, 0)
    _write_pyramid(root, _means(planes, levels))
    root.attrs["ome"] = {
        "version": VERSION,
        "multiscales": [multiscale(name, all_axes, levels)],
        "omero": {"channels": channels(pixels.dtype, pixels.shape[2], _between(pixels))},
    }
    labels = root.create_group("labels")
    labels.attrs["ome"] = {"version": VERSION, "labels": list(label_images)}
    for label_name, image in label_images.items():
        group = labels.create_group(label_name)
        _write_pyramid(group, _nearest(image.labels, levels))
        group.attrs["ome"] = {
            "version": VERSION,
            "multiscales": [multiscale(label_name, axes(), levels)],
            "image-label": image_label(image),
        }


def axes() -> list[dict[str, str]]:
    """Of a label image."""
    return [{"name": name, "type": "space"} for name in ("y", "x")]


def count_levels(shape: tuple[int, ...]) -> int:
    """Of the pyramid of an image of `shape`, the image itself included."""
    levels, side = 1, max(shape)
    while side > SMALLEST:
        side = (side + 1) // 2
        levels += 1
    return levels


def level_shape(shape: tuple[int, int], level: int) -> tuple[int, int]:
    """(height, width) of a level of the pyramid of an image of `shape`."""
    return -(-shape[0] // 2**level), -(-shape[1] // 2**level)


def multiscale(name: str, axes: list[dict[str, str]], levels: int) -> dict[str, Any]:
    """What `multiscales` says of a pyramid whose arrays are named by their level."""
    others = len(axes) - 2
    datasets = [
        {"path": str(level), "coordinateTransformations": _place(level, others)}
        for level in range(levels)
    ]
    return {"name": name, "axes": axes, "datasets": datasets}


def _place(level: int, others: int) -> list[dict[str, Any]]:
    """Where the pixels of a level are, in pixels of the image; `others` are axes before y and x."""
    side = 2.0**level
    centre = (side - 1) / 2
    return [
        {"type": "scale", "scale": [*[1.0] * others, side, side]},
        {"type": "translation", "translation": [*[0.0] * others, centre, centre]},
    ]


def _write_pyramid(group: zarr.Group, levels: Iterable[Plane]) -> None:
    for level, image in enumerate(levels):
        create_level(group, level, image.shape, image.dtype)[:] = image


def create_level(
    group: zarr.Group, level: int, shape: tuple[int, ...], dtype: np.dtype[Any]
) -> zarr.Array[Any]:
    """A new array of a pyramid, (C, H, W) or (H, W)."""
    height, width = shape[-2:]
    return group.create_array(
        str(level),
        shape=shape,
        dtype=dtype,
        chunks=(*([1] * (len(shape) - 2)), min(height, CHUNK), min(width, CHUNK)),
        compressors=ZstdCodec(level=ZSTD_LEVEL),
        fill_value=0,
        dimension_names=("c", "y", "x")[-len(shape) :],
    )


def _nearest(labels: Plane, levels: int) -> Iterator[Plane]:
    """(H, W), then what is at the centre of each square of 2, 4, ... pixels."""
    for level in range(levels):
        yield labels[np.ix_(*(centres(size, 2**level) for size in labels.shape))]


def centres(size: int, side: int) -> npt.NDArray[np.intp]:
    """Along one axis, the pixels of the image that a level shows whose pixels are `side` wide."""
    return np.minimum(np.arange(0, size, side) + side // 2, size - 1)


def _means(planes: Plane, levels: int) -> Iterator[Plane]:
    """(C, H, W), then the mean of each square of 2, 4, ... pixels."""
    for level in range(levels):
        planes = mean_of_four(planes) if level else planes
        yield planes


def mean_of_four(planes: Plane) -> Plane:
    """(C, H, W) to half the height and width, rounded up: the last row and column count twice."""
    height, width = planes.shape[1:]
    even = np.pad(planes, ((0, 0), (0, height % 2), (0, width % 2)), mode="edge")
    quarters = [even[:, y::2, x::2].astype(np.float64) for y in (0, 1) for x in (0, 1)]
    mean = sum(quarter / 4 for quarter in quarters)
    if np.issubdtype(planes.dtype, np.integer):
        mean = np.rint(mean)
    return np.asarray(mean).astype(planes.dtype)


def _between(pixels: Pixels) -> tuple[float, float]:
    """The smallest and the largest value; of bytes nobody asks."""
    if pixels.dtype == np.uint8:
        return 0.0, 255.0
    return float(pixels.min()), float(pixels.max())


def channels(
    dtype: np.dtype[Any], count: int, between: tuple[float, float]
) -> list[dict[str, Any]]:
    """How to show them: bytes as they are, all else from its smallest to its largest value."""
    colours = ["FF0000", "00FF00", "0000FF"] if count == 3 else ["FFFFFF"]
    low, high = (0.0, 255.0) if dtype == np.uint8 else between
    window = {"min": low, "max": high, "start": low, "end": high}
    return [{"color": colour, "window": window, "active": True} for colour in colours]


def image_label(image: LabelImage) -> dict[str, Any]:
    """What `image-label` says of it."""
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
