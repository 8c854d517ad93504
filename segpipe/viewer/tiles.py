"""Tiles of an image and of what was found in it, as PNG: pixels, masks, outlines, classes."""

from __future__ import annotations

import io
import threading
from collections import OrderedDict
from itertools import chain
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from segpipe.errors import SpecError
from segpipe.geometry import Box
from segpipe.readers import Reader
from segpipe.report.display import class_colours, contrast, shown
from segpipe.report.drawn_objects import DrawnObjects
from segpipe.report.overlay import edges
from segpipe.report.source import limits_of, read_again
from segpipe.store import Snapshot
from segpipe.store.snapshot import Row, is_large
from segpipe.viewer.large import LargeLabels, LargePixels, OpenImages, Tiled
from segpipe.viewer.pyramid import (
    STRIP,
    TILE,
    Pyramids,
    Strips,
    mean_of_four,
    nearest,
    strips_of,
)

_KEPT = 16
"""Results whose colours are kept: those that were looked at last."""

Kind = Literal["pixels", "masks", "outlines", "classes"]
Colours = npt.NDArray[np.uint8]
"""(L + 1, 3): a colour per label; that of 0 is not used."""


class Tiles:
    """Draws what is asked for, and keeps pyramids of what it is drawn from."""

    def __init__(self) -> None:
        self._pyramids = Pyramids()
        self._images = OpenImages()
        self._kept_colours: OrderedDict[tuple[str, int], Colours] = OrderedDict()
        self._lock = threading.Lock()

    def pixels(self, image: Row) -> Tiled:
        """The picture of an image, as `display` shows it.

        Raises:
            InputError: it is gone, or another one by now.
        """
        if is_large(image):
            return LargePixels(self._images, self._pyramids, image)

        def read() -> Strips:
            with Reader(limits_of(image), isolated=True) as reader:
                pixels = read_again(reader, image).pixels
            between = contrast(pixels)
            strips = (shown(strip, between) for strip in strips_of(pixels))
            return Strips((*pixels.shape[:2], 3), np.dtype(np.uint8), strips, mean_of_four)

        return self._pyramids.get(("pixels", image["image_id"], image["sha256"]), read)

    def labels(self, snapshot: Snapshot, image: Row, semantic: bool = False) -> Tiled:
        """The label image, or the class image.

        Raises:
            SpecError: the image has none.
        """
        shape = image["height"], image["width"]
        array = image["semantic_array" if semantic else "mask_array"]
        masks = snapshot.semantic if semantic else snapshot.label_image
        if array is None:
            raise SpecError(f"{image['path']}: its model gives no class per pixel")

        def mask(part: Box, level: int = 0) -> npt.NDArray[Any]:
            found = masks(image, part, level)
            assert found is not None  # there is an array
            return found

        if is_large(image):
            return LargeLabels(mask, shape)

        def strip(top: int) -> npt.NDArray[Any]:
            return mask(Box(top, 0, top + STRIP, shape[1]).clip(shape))

        def read() -> Strips:
            first = strip(0)
            others = (strip(top) for top in range(STRIP, shape[0], STRIP))
            return Strips(shape, first.dtype, chain([first], others), nearest)

        return self._pyramids.get((array, image["mask_index"]), read)

    def draw(
        self, snapshot: Snapshot, image: Row, kind: Kind, level: int, row: int, column: int
    ) -> bytes:
        """A tile as PNG; all but pixels are transparent where there is nothing.

        Raises:
            SpecError: there is no such tile.
            InputError: of pixels: the image is gone, or another one by now.
        """
        if kind == "pixels":
            pyramid = self.pixels(image)
        else:
            pyramid = self.labels(snapshot, image, kind == "classes")
        border = 1 if kind == "outlines" else 0
        try:
            tile = pyramid.tile(level, row, column, border)
        except IndexError as error:
            raise SpecError(f"{image['path']}: {error}") from error
        if kind == "pixels":
            return encode(tile)
        if kind == "classes":
            return encode(_coloured(tile, tile > 0, class_colours(int(tile.max(initial=0)) + 1)))
        inside = tile > 0
        visible = inside if kind == "masks" else edges(tile) & inside
        colours = self.colours(snapshot, image)
        drawn = _coloured(tile, visible, colours)
        top, left = border * (row > 0), border * (column > 0)
        return encode(drawn[top : top + TILE, left : left + TILE])

    def colours(self, snapshot: Snapshot, image: Row) -> Colours:
        """Those of a result, which are the same for all its tiles."""
        key = image["mask_array"], image["mask_index"]
        with self._lock:
            if key not in self._kept_colours:
                self._kept_colours[key] = DrawnObjects.of(snapshot.object_table(image)).colours()
            self._kept_colours.move_to_end(key)
            while len(self._kept_colours) > _KEPT:
                self._kept_colours.popitem(last=False)
            return self._kept_colours[key]

    def close(self) -> None:
        self._images.close()
        self._pyramids.close()


def encode(pixels: npt.NDArray[np.uint8]) -> bytes:
    """(H, W, 3) or (H, W, 4) as PNG, quickly."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def _coloured(
    labels: npt.NDArray[Any], shown: npt.NDArray[np.bool_], colours: Colours
) -> npt.NDArray[np.uint8]:
    """(H, W, 4): the colour of each label where it is shown."""
    drawn = np.zeros((*labels.shape, 4), np.uint8)
    drawn[shown, :3] = colours[labels[shown]]
    drawn[shown, 3] = 255
    return drawn
