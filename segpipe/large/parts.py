"""What becomes of a large image, whether its parts are objects or classes.

A row of tiles becomes arrays, which can be stored; the arrays of all rows become a `Whole`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from segpipe.errors import InputError
from segpipe.geometry import Box
from segpipe.masks.painted import Painted
from segpipe.masks.seams.packed import Int64s
from segpipe.planning.tiles import Tile
from segpipe.records import CroppedMask, DecodedImage
from segpipe.segmenters.base import View

Arrays = Mapping[str, npt.NDArray[Any]]
"""Of one row of tiles, by name; numbers and bytes only."""

ReadRow = Callable[[int], Arrays]


class NarrowHaloError(InputError):
    """An object was not seen whole: larger parts, or wider halos, may show it."""


class Whole(Protocol):
    """The objects of a large image in the order of their labels, and what it shows where.

    Attributes:
        boxes: (N, 4) int64, tight: y0, x0, y1, x1.
        scores: (N,) float32.
        class_ids: (N,) int32.
        saturated, n_discarded: as in `Segmentation`.
    """

    boxes: Int64s
    scores: npt.NDArray[np.float32]
    class_ids: npt.NDArray[np.int32]
    saturated: bool
    n_discarded: int

    def paint(self, box: Box) -> Painted:
        """The label image of a region."""
        ...

    def mask(self, number: int) -> CroppedMask:
        """All pixels of an object that overlaps another."""
        ...

    def semantic(self, box: Box) -> npt.NDArray[np.uint8] | None:
        """(h, w) class of each pixel of a region; None where there are no classes of pixels."""
        ...


class Method(Protocol):
    """How the parts of one kind of model are kept and put together."""

    def found(self, tile: Tile, raw: Any, part: DecodedImage) -> Any:
        """What the model's answer on one tile says.

        Raises:
            InputError: as the segmenter's last stage.
        """
        ...

    def refined(self, found: Any, tile: Tile, read: Callable[[], DecodedImage], view: View) -> Any:
        """The same with what a closer look shows, where the model found as much as it may tell.

        Uses the device, which nobody else does meanwhile.

        Args:
            read: the pixels that the tile sees.
        """
        ...

    def arrays(self, found: Sequence[Any]) -> dict[str, npt.NDArray[Any]]:
        """What was found in a row of tiles."""
        ...

    def whole(self, read_row: ReadRow) -> Whole:
        """What all rows come to.

        Raises:
            NarrowHaloError: an object that is larger than the halo was seen in parts that do not
                fit.
        """
        ...
