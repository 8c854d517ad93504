"""Tiles of large images: read by region, and masks from the levels that the store has of them."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from segpipe.geometry import Box
from segpipe.report.display import shown
from segpipe.report.source import LargeImage, open_large
from segpipe.store.ome_zarr import level_shape
from segpipe.store.snapshot import Row
from segpipe.viewer.pyramid import (
    STRIP,
    Pyramid,
    Pyramids,
    Strips,
    levels,
    mean_of_four,
    tile_box,
)

_KEPT = 2
"""Images that stay open; each holds what was decoded last, and a PNG or JPEG all of it."""

_DIRECT = 4
"""Where a pixel of a tile is made of more than so many of the file, along an axis, the level is
made once and kept: every tile of it would read a large part of the image."""

Plane = npt.NDArray[Any]


class Tiled(Protocol):
    """A picture, (H, W) or (H, W, 3), that is shown tile by tile."""

    def tile(self, level: int, row: int, column: int, border: int = 0) -> Plane:
        """As `Pyramid.tile`."""

    def part(self, box: Box) -> Plane:
        """A part of it in full, inside of it."""


@dataclass(slots=True)
class _Open:
    image: LargeImage
    close: Callable[[], None]
    users: int = 0


class OpenImages:
    """Large images that were looked at last; one is closed when nobody reads it any more."""

    def __init__(self) -> None:
        self._kept: OrderedDict[Any, _Open] = OrderedDict()
        self._lock = threading.Lock()

    @contextmanager
    def use(self, row: Row) -> Iterator[LargeImage]:
        """The image of a row of `images`.

        Raises:
            InputError: it is gone, or another one by now.
        """
        one = self._taken(row)
        try:
            yield one.image
        finally:
            with self._lock:
                one.users -= 1
                self._shrink(_KEPT)

    def close(self) -> None:
        with self._lock:
            self._shrink(0)

    def _taken(self, row: Row) -> _Open:
        key = row["image_id"], row["sha256"]
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                self._kept[key].users += 1
                return self._kept[key]
        regions = open_large(row)
        with self._lock:
            if key in self._kept:  # another thread was quicker
                regions.close()
            else:
                self._kept[key] = _Open(LargeImage(row["path"], regions), regions.close)
            self._kept[key].users += 1
            return self._kept[key]

    def _shrink(self, most: int) -> None:
        for key in [key for key, one in self._kept.items() if not one.users]:
            if len(self._kept) <= most:
                return
            self._kept.pop(key).close()


class LargePixels:
    """The picture of a large image."""

    def __init__(self, images: OpenImages, pyramids: Pyramids, row: Row) -> None:
        self._images, self._pyramids, self._row = images, pyramids, row
        self._shape = row["height"], row["width"]

    def tile(self, level: int, row: int, column: int, border: int = 0) -> Plane:
        with self._images.use(self._row) as image:
            box = tile_box(image.level_shape(level), level, row, column, border)
            if image.cost(level) <= _DIRECT:
                return shown(image.read(box, level), image.contrast)
            first = min(one for one in range(level + 1) if image.cost(one) > _DIRECT)
            return self._small(image, first).tile(level - first, row, column, border)

    def part(self, box: Box) -> Plane:
        with self._images.use(self._row) as image:
            return shown(image.read(box), image.contrast)

    def _small(self, image: LargeImage, first: int) -> Pyramid:
        """The levels from one on."""
        shape = image.level_shape(first)
        tops = range(0, shape[0], STRIP)
        strips = (
            shown(image.read(Box(top, 0, top + STRIP, shape[1]).clip(shape), first), image.contrast)
            for top in tops
        )
        key = "pixels", self._row["image_id"], self._row["sha256"]
        about = (*shape, 3), np.dtype(np.uint8)
        return self._pyramids.get(key, lambda: Strips(*about, strips, mean_of_four))


class LargeLabels:
    """A label image or a class image, as the store has it."""

    def __init__(self, read: Callable[[Box, int], Plane], shape: tuple[int, int]) -> None:
        """`read` gives a part of a level; `shape` is (H, W)."""
        self._read, self._shape = read, shape

    def tile(self, level: int, row: int, column: int, border: int = 0) -> Plane:
        if not 0 <= level < levels(*self._shape):
            raise IndexError(f"no level {level}")
        shape = level_shape(self._shape, level)
        return self._read(tile_box(shape, level, row, column, border), level)

    def part(self, box: Box) -> Plane:
        return self._read(box, 0)
