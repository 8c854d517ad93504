"""Images in several sizes, on the local disk, so that any part of a large one is there at once.

Level 0 is the image itself, each further level half as high and wide, until one tile holds it.
"""

from __future__ import annotations

import math
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from segpipe.geometry import Box

TILE = 512
"""Side of a tile, pixels."""

MOST_BYTES = 6 << 30
"""Of all pyramids together, on the disk."""

Level = npt.NDArray[Any]


STRIP = 1024
"""Rows that are in memory at a time; a power of two, so that strips of all levels fit together."""


@dataclass(frozen=True, slots=True, eq=False)
class Strips:
    """A picture as it comes.

    Attributes:
        shape: (H, W) or (H, W, 3).
        strips: of `STRIP` rows each, the last one perhaps of fewer.
        smaller: a strip, or one of a level, to half its height and width, rounded up.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    strips: Iterable[Level]
    smaller: Callable[[Level], Level]


class Pyramid:
    """One picture; `levels` are memory-mapped, (H, W) or (H, W, 3)."""

    def __init__(self, folder: Path, image: Strips) -> None:
        self.levels: list[Level] = []
        self._folder = folder
        shape = image.shape
        while True:
            self.levels.append(self._made(shape, image.dtype))
            if max(shape[:2]) <= TILE:
                break
            shape = ((shape[0] + 1) // 2, (shape[1] + 1) // 2, *shape[2:])
        top = 0
        for strip in image.strips:
            self._fill(strip, top, image.smaller)
            top += STRIP

    def _fill(self, strip: Level, top: int, smaller: Callable[[Level], Level]) -> None:
        for level in self.levels[:-1]:
            level[top : top + len(strip)] = strip
            strip, top = smaller(strip), top // 2
        self.levels[-1][top : top + len(strip)] = strip

    @property
    def size_bytes(self) -> int:
        return sum(level.nbytes for level in self.levels)

    def tile(self, level: int, row: int, column: int, border: int = 0) -> Level:
        """A part of a level, at most `TILE` x `TILE`, and as much around it as there is.

        Raises:
            IndexError: there is no such tile.
        """
        image = self.levels[level]
        box = tile_box((image.shape[0], image.shape[1]), level, row, column, border)
        return np.array(image[box.slices])

    def part(self, box: Box) -> Level:
        """A part of it in full, inside of it."""
        return np.array(self.levels[0][box.slices])

    def _made(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Level:
        path = self._folder / f"{id(self):x}-{len(self.levels)}.npy"
        kept = np.lib.format.open_memmap(path, "w+", dtype, shape)
        # The name can go: the pages stay for as long as the array is there.
        path.unlink()
        return kept


class Pyramids:
    """The pyramids that were looked at last; made once each, whoever asks meanwhile waits."""

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="segpipe-view-")
        self._most = most_bytes
        self._kept: OrderedDict[Any, Pyramid] = OrderedDict()
        self._making: dict[Any, threading.Lock] = {}
        self._lock = threading.Lock()

    def get(self, key: Any, image: Callable[[], Strips]) -> Pyramid:
        """The pyramid of that key; `image` gives the picture where it is not there yet."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
            making = self._making.setdefault(key, threading.Lock())
        with making:
            with self._lock:
                if key in self._kept:
                    return self._kept[key]
            made = Pyramid(Path(self._folder.name), image())
            with self._lock:
                self._kept[key] = made
                self._making.pop(key, None)
                while len(self._kept) > 1 and self._size > self._most:
                    self._kept.popitem(last=False)
            return made

    @property
    def _size(self) -> int:
        return sum(pyramid.size_bytes for pyramid in self._kept.values())

    def close(self) -> None:
        with self._lock:
            self._kept.clear()
        self._folder.cleanup()


def levels(height: int, width: int) -> int:
    """How many an image of that size has."""
    side = max(height, width, 1)
    return 1 + max(0, math.ceil(math.log2(side / TILE)))


def tile_box(shape: tuple[int, int], level: int, row: int, column: int, border: int) -> Box:
    """Of a tile and as much around it as there is.

    Args:
        shape: (H, W) of the level.

    Raises:
        IndexError: there is no such tile.
    """
    y, x = row * TILE, column * TILE
    if not (0 <= y < shape[0] and 0 <= x < shape[1]):
        raise IndexError(f"no tile {row}, {column} in level {level}")
    return Box(y, x, y + TILE, x + TILE).grow(border).clip(shape)


def strips_of(image: Level) -> Iterator[Level]:
    """Of a picture that is in memory."""
    return (image[top : top + STRIP] for top in range(0, len(image), STRIP))


def mean_of_four(picture: Level) -> Level:
    """(H, W, 3) uint8 to half the height and width, rounded up."""
    rows, columns = picture.shape[:2]
    even = np.pad(picture, ((0, rows % 2), (0, columns % 2), (0, 0)), mode="edge")
    wide = even.astype(np.uint16)
    total = wide[::2, ::2] + wide[1::2, ::2] + wide[::2, 1::2] + wide[1::2, 1::2]
    return ((total + 2) // 4).astype(np.uint8)


def nearest(labels: Level) -> Level:
    """(H, W) labels to half the height and width, rounded up."""
    return labels[::2, ::2]
