"""Planes of a large image as TIFF files of tiles, of which programs read what they show."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import tifffile

from segpipe.geometry import Box
from segpipe.readers.regions.georeference import PLACING

SIDE = 1024
"""Of a tile, pixels."""

_MOST_BYTES = 2 << 30
"""Of pixels before compression, for which offsets of 32 bits are enough whatever happens."""

Read = Callable[[Box], npt.NDArray[Any]]


def write_tiled(
    file: BinaryIO,
    shape: tuple[int, ...],
    dtype: npt.DTypeLike,
    read: Read,
    compression: str,
    georeference: Mapping[str, Any] | None,
) -> None:
    """Write a plane tile by tile; as BigTIFF where its pixels are more than 2 GB.

    Args:
        shape: (H, W), or (H, W, 3) of colours.
        read: gives the part of the plane in a box, (h, w) or (h, w, 3).
        compression: `zlib`, which every program reads, or another one of tifffile's.
        georeference: as `Snapshot.georeference` gives it: the file is a GeoTIFF then.
    """
    kind = np.dtype(dtype)
    tifffile.imwrite(
        file,
        _tiles(shape, kind, read),
        shape=shape,
        dtype=kind,
        tile=(SIDE, SIDE),
        compression=compression,
        photometric="rgb" if len(shape) == 3 else "minisblack",
        extratags=list(_geo_tags(georeference)) if georeference else (),
        bigtiff=int(np.prod(shape, dtype=np.int64)) * kind.itemsize > _MOST_BYTES,
    )


def _geo_tags(georeference: Mapping[str, Any]) -> Iterator[tuple[int, str, int, Any, bool]]:
    for code, kind in PLACING.items():
        values = georeference["tags"].get(str(code))
        if values is not None:
            yield code, kind, 0 if kind == "s" else len(values), values, True


def _tiles(shape: tuple[int, ...], dtype: np.dtype[Any], read: Read) -> Iterator[npt.NDArray[Any]]:
    """Each whole; beyond the plane they are 0."""
    for box in Box(0, 0, *shape[:2]).blocks(SIDE, SIDE):
        tile = np.zeros((SIDE, SIDE, *shape[2:]), dtype)
        tile[: box.height, : box.width] = read(box)
        yield tile
