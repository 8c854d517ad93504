"""Tiles of an image and of what was found in it, as PNG: pixels, masks, outlines, classes."""

from __future__ import annotations

import io
import threading
from collections import OrderedDict
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from segpipe.errors import SpecError
from segpipe.readers import Reader
from segpipe.report.display import class_colours, display
from segpipe.report.overlay import edges, object_colours
from segpipe.report.picture import limits_of, read_again
from segpipe.store import Snapshot
from segpipe.store.snapshot import Row
from segpipe.viewer.pyramid import TILE, Pyramid, Pyramids, mean_of_four, nearest

_KEPT = 16
"""Results whose colours are kept: those that were looked at last."""

Kind = Literal["pixels", "masks", "outlines", "classes"]
Colours = npt.NDArray[np.uint8]
"""(L + 1, 3): a colour per label; that of 0 is not used."""


class Tiles:
    """Draws what is asked for, and keeps pyramids of what it is drawn from."""

    def __init__(self) -> None:
        self._pyramids = Pyramids()
        self._kept_colours: OrderedDict[tuple[str, int], Colours] = OrderedDict()
        self._lock = threading.Lock()

    def pixels(self, image: Row) -> Pyramid:
        """The picture of an image, as `display` shows it.

        Raises:
            InputError: it is gone, or another one by now.
        """

        def read() -> npt.NDArray[np.uint8]:
            with Reader(limits_of(image), isolated=True) as reader:
                return display(read_again(reader, image).pixels)

        return self._pyramids.get(
            ("pixels", image["image_id"], image["sha256"]), read, mean_of_four
        )

    def labels(self, snapshot: Snapshot, image: Row, semantic: bool = False) -> Pyramid:
        """The label image, or the class image.

        Raises:
            SpecError: the image has none.
        """

        def read() -> npt.NDArray[Any]:
            found = snapshot.semantic(image) if semantic else snapshot.label_image(image)
            if found is None:
                raise SpecError(f"{image['path']}: its model gives no class per pixel")
            return found

        array = image["semantic_array" if semantic else "mask_array"]
        return self._pyramids.get((array, image["mask_index"]), read, nearest)

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
        shown = inside if kind == "masks" else edges(tile) & inside
        colours = self._colours(snapshot, image)
        drawn = _coloured(tile, shown, colours)
        top, left = border * (row > 0), border * (column > 0)
        return encode(drawn[top : top + TILE, left : left + TILE])

    def _colours(self, snapshot: Snapshot, image: Row) -> Colours:
        """Those of a result, which are the same for all its tiles."""
        key = image["mask_array"], image["mask_index"]
        with self._lock:
            if key not in self._kept_colours:
                self._kept_colours[key] = object_colours(snapshot.objects_of(image))
            self._kept_colours.move_to_end(key)
            while len(self._kept_colours) > _KEPT:
                self._kept_colours.popitem(last=False)
            return self._kept_colours[key]

    def close(self) -> None:
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
