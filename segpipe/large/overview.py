"""What has to be known of a large image as a whole before any part of it is looked at."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from segpipe.clock import StageClock
from segpipe.items import guarded
from segpipe.large.cut import halo_for, sample_of, side_of
from segpipe.large.image import LargeImage
from segpipe.masks.paint import unpaint
from segpipe.masks.seams.packed import Int64s, pack
from segpipe.planning.tiles import plan_tiles
from segpipe.records import Pixels
from segpipe.segmenters.base import Areas, PartSegmenter, View
from segpipe.segmenters.value_ranges import streamed_range
from segpipe.spec import Tiles

SAMPLE = 6
"""Parts whose objects choose magnification and halo."""

SAMPLE_SIDE = 512
"""Of these parts, and of those that the range of the values is gathered from, pixels."""


@dataclass(frozen=True, slots=True)
class Overview:
    """What holds for all parts.

    Attributes:
        view: in which they are looked at.
        side: of a part, pixels.
        halo: of a part, pixels.
        sha256: of the file.
        n_nonfinite: samples that are NaN or infinite, and read as 0.
        shape: (height, width) of the image.
        stages: stage -> seconds that this took, see `clock`.
    """

    view: View
    side: int
    halo: int
    sha256: str
    n_nonfinite: int
    shape: tuple[int, int]
    stages: Mapping[str, float]

    def to_bytes(self) -> bytes:
        return json.dumps(asdict(self)).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> Overview:
        """
        Raises:
            ValueError, TypeError, KeyError: these are not the bytes of one.
        """
        values = json.loads(data)
        height, width = values.pop("shape")
        return cls(View(**values.pop("view")), shape=(height, width), **values)


def look_over(
    image: LargeImage, segmenter: PartSegmenter[Any, Any], sha256: Callable[[], str]
) -> Overview:
    """Read all of an image, part by part, and look at a few parts of it.

    Args:
        sha256: of the image's file.

    Raises:
        InputError: a part of it is damaged.
    """
    tiles = segmenter.spec.tiles
    assert tiles is not None
    clock = StageClock()
    whole = _Whole(image)
    with clock.stage("decode"):
        between = (0.0, 1.0)
        if segmenter.scaling is not None:
            dtype = np.dtype(image.header.dtype)
            between = streamed_range(dtype, segmenter.scaling, whole.parts)
        found = sha256(), whole.n_nonfinite
    view = View(*between)
    with clock.stage("preprocess"):
        sample = _sample(image, segmenter, view, tiles)
        view = replace(view, magnification=segmenter.magnification(sample.areas))
        side = side_of(tiles, view.magnification)
        halo = tiles.halo or halo_for(sample.boxes, side)
    return Overview(view, side, halo, *found, image.header.shape, clock.seconds())


class _Whole:
    """All pixels of an image, in parts, as often as they are asked for."""

    def __init__(self, image: LargeImage) -> None:
        self._image = image
        self._n_nonfinite: int | None = None

    def parts(self) -> Iterator[Pixels]:
        found = 0
        for tile in plan_tiles(self._image.header.shape, SAMPLE_SIDE, 0):
            part = self._image.part(tile.core)
            found += part.n_nonfinite
            yield part.pixels
        self._n_nonfinite = found

    @property
    def n_nonfinite(self) -> int:
        if np.dtype(self._image.header.dtype).kind != "f":
            return 0
        if self._n_nonfinite is None:
            for _ in self.parts():
                pass
        return self._n_nonfinite or 0


class _Sample(NamedTuple):
    """Objects in a few parts.

    Attributes:
        areas: (N,) pixels.
        boxes: (M, 4) of those that no edge of a part cuts.
    """

    areas: Areas
    boxes: Int64s


def _sample(
    image: LargeImage, segmenter: PartSegmenter[Any, Any], view: View, tiles: Tiles
) -> _Sample:
    areas, boxes = [np.empty(0, np.int64)], [np.empty((0, 4), np.int64)]
    if segmenter.spec.model.task != "semantic":  # whose regions may be of any size
        for box in sample_of(image.header.shape, min(SAMPLE_SIDE, tiles.side), SAMPLE):
            part = image.part(box)
            (raw,) = guarded(segmenter.forward, [guarded(segmenter.prepare_part, part, view)])
            found = unpaint(guarded(segmenter.finish, raw, part))
            masks = pack(found.masks)
            after, before = masks.boxes[:, :2] > 0, masks.boxes[:, 2:] < part.header.shape
            areas.append(masks.areas)
            boxes.append(masks.boxes[after.all(1) & before.all(1)])
    return _Sample(np.concatenate(areas), np.concatenate(boxes))
