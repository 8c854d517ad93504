"""Images over the tile budget, looked at part by part; all others as they are.

A part is a core and a halo around it (`planning.tiles`). All parts of an image are scaled by the
range of the whole image and looked at in one magnification, so that they fit together; a U-Net's
is chosen by the objects in a few parts. Instances of parts are merged over the seams
(`masks.seams`); of classes each core takes its own pixels, and regions are connected afterwards,
over the whole image.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from segpipe.errors import InputError, Reason
from segpipe.geometry import Box
from segpipe.masks.boxes import fill_boxes
from segpipe.masks.paint import paint
from segpipe.masks.seams import merge_tiles
from segpipe.planning.tiles import Tile, Tiling, plan_tiles
from segpipe.records import DecodedImage, Header, Instances, Segmentation
from segpipe.segmenters.base import (
    DeviceMemoryError,
    Footprint,
    PartSegmenter,
    SemanticPartSegmenter,
    View,
)
from segpipe.segmenters.saturation import ALIGN, cut, objects_of_part
from segpipe.segmenters.splitting import Confidence, Semantic
from segpipe.spec import Tiles

SAMPLE = 5
"""Parts of an image whose objects choose its magnification."""

FOUND_BYTES = 8
"""Of what was found, for each pixel of the image; classes take 5, masks of objects less."""

FINISH_BYTES = 72
"""Of `finish` at its peak, for each pixel of the image, as of a U-Net's."""


@dataclass(frozen=True, slots=True, eq=False)
class Large:
    """An image whose parts are prepared when it is their turn."""

    image: DecodedImage
    view: View


@dataclass(frozen=True, slots=True, eq=False)
class FoundInstances:
    """The objects of all parts, in image coordinates."""

    tiling: Tiling
    parts: tuple[tuple[Tile, Instances], ...]


@dataclass(frozen=True, slots=True, eq=False)
class FoundClasses:
    """The classes of all cores, put together."""

    semantic: Semantic
    confidence: Confidence


class TiledSegmenter:
    """A segmenter for images of any size, around one that can look at parts.

    Args:
        inner: looks at parts, and at whole images within the tile budget.
        tiles: how larger ones are cut.
    """

    def __init__(self, inner: PartSegmenter[Any, Any], tiles: Tiles) -> None:
        self.spec = inner.spec
        self._inner = inner
        self._tiles = tiles

    @property
    def inner(self) -> PartSegmenter[Any, Any]:
        """The segmenter of a part."""
        return self._inner

    def footprint(self, header: Header) -> Footprint:
        """Of a large image: a batch of parts, and what was found in all of it."""
        if not self._is_large(header.shape):
            return self._inner.footprint(header)
        side = self._tiles.side
        part = replace(header, height=min(side, header.height), width=min(side, header.width))
        one = self._inner.footprint(part)
        pixels = header.height * header.width
        samples = pixels * header.channels
        looking = self.spec.batch_of(part.shape) * (one.prepare + one.forward) + one.finish
        return Footprint(
            waiting=FOUND_BYTES * pixels,
            prepare=8 * samples if header.dtype not in ("uint8", "uint16") else 0,
            forward=looking + FOUND_BYTES * pixels,
            finish=FINISH_BYTES * pixels,
        )

    def prepare(self, image: DecodedImage) -> Any:
        """Of a large image: the range of its values alone."""
        if not self._is_large(image.header.shape):
            return self._inner.prepare(image)
        return Large(image, self._inner.view(image))

    def forward(self, batch: Sequence[Any]) -> Sequence[Any]:
        """Large images one by one, part by part."""
        if not isinstance(batch[0], Large):
            return self._inner.forward(batch)
        return [self._look(one) for one in batch]

    def finish(self, raw: Any, image: DecodedImage) -> Segmentation:
        """Of a large image: the objects of all parts, each once and whole.

        Raises:
            InputError: an object that is larger than the halo was seen in parts that do not fit.
        """
        match raw:
            case FoundInstances():
                whole = _merged(raw, self._tiles.halo)
                boxes = self.spec.model.task == "boxes"
                return paint(fill_boxes(whole) if boxes else whole, image.header.shape)
            case FoundClasses():
                return self._semantic.regions(raw.semantic, raw.confidence)
            case _:
                return self._inner.finish(raw, image)

    def _is_large(self, shape: tuple[int, int]) -> bool:
        return shape[0] * shape[1] > self.spec.limits.max_pixels

    @property
    def _semantic(self) -> SemanticPartSegmenter[Any, Any]:
        assert self.spec.model.task == "semantic"
        return self._inner  # type: ignore[return-value]  # as `build` gives it

    def _look(self, large: Large) -> FoundInstances | FoundClasses:
        shape = large.image.header.shape
        tiling = plan_tiles(shape, self._tiles.core, self._tiles.halo, ALIGN)
        if self.spec.model.task == "semantic":
            return self._classes(large, tiling)
        chosen = replace(large.view, magnification=self._magnification(large, tiling))
        found = tuple(
            (tile, objects_of_part(self._inner, raw, part, tile.grown, shape, chosen, tiling.halo))
            for tile, part, raw in self._parts(large.image, tiling, chosen, range(len(tiling)))
        )
        return FoundInstances(tiling, found)

    def _classes(self, large: Large, tiling: Tiling) -> FoundClasses:
        shape = large.image.header.shape
        semantic, confidence = np.zeros(shape, np.uint8), np.zeros(shape, np.float32)
        parts = self._parts(large.image, tiling, large.view, range(len(tiling)))
        for tile, part, raw in parts:
            own = tile.core.shift(-tile.grown.y0, -tile.grown.x0)
            classes, sure = self._semantic.classes(raw, part.header.shape)
            semantic[tile.core.slices] = classes[own.slices]
            confidence[tile.core.slices] = sure[own.slices]
        return FoundClasses(semantic, confidence)

    def _magnification(self, large: Large, tiling: Tiling) -> float:
        """By the objects in a few parts, which lie all over the image."""
        part = tiling.largest
        if {self._inner.magnification(d, part) for d in (1.0, 1e6)} == {1.0}:
            return 1.0  # whatever there is to see
        numbers = np.unique(np.linspace(0, len(tiling) - 1, SAMPLE).astype(int)).tolist()
        areas = [
            np.bincount(self._inner.finish(raw, seen).label_image.ravel())[1:]
            for _, seen, raw in self._parts(large.image, tiling, large.view, numbers)
        ]
        known = np.concatenate(areas)
        known = known[known > 0]
        diameter = 2 * float(np.sqrt(np.median(known) / np.pi)) if len(known) else 0.0
        return self._inner.magnification(diameter, part)

    def _parts(
        self, image: DecodedImage, tiling: Tiling, view: View, numbers: Sequence[int]
    ) -> Iterator[tuple[Tile, DecodedImage, Any]]:
        """Parts and what the network says of them, neighbours of one shape in a batch."""
        waiting: list[Tile] = []
        for number in numbers:
            tile = tiling[number]
            if waiting and _shape(tile.grown) != _shape(waiting[0].grown):
                yield from self._forward(image, waiting, view)
                waiting = []
            waiting.append(tile)
            if len(waiting) >= self.spec.batch_of(_shape(tile.grown)):
                yield from self._forward(image, waiting, view)
                waiting = []
        yield from self._forward(image, waiting, view)

    def _forward(
        self, image: DecodedImage, tiles: Sequence[Tile], view: View
    ) -> Iterator[tuple[Tile, DecodedImage, Any]]:
        """One batch; half of it at a time where the device has no memory for all."""
        if not tiles:
            return
        parts = [cut(image, tile.grown) for tile in tiles]
        try:
            raws = self._inner.forward([self._inner.prepare_part(part, view) for part in parts])
        except DeviceMemoryError:
            if len(tiles) == 1:
                raise
            half = len(tiles) // 2
            yield from self._forward(image, tiles[:half], view)
            yield from self._forward(image, tiles[half:], view)
        else:
            yield from zip(tiles, parts, raws, strict=True)


def _shape(box: Box) -> tuple[int, int]:
    return box.height, box.width


def _merged(found: FoundInstances, halo: int) -> Instances:
    instances, merged = merge_tiles(found.tiling, found.parts)
    broken = np.flatnonzero(merged.incomplete)
    if len(broken):
        y0, x0, y1, x1 = merged.boxes[broken[0]].tolist()
        raise InputError(
            Reason.TOO_LARGE,
            f"{len(broken):,} objects of {len(instances.masks):,} were not seen whole, the first "
            f"in rows {y0} to {y1} and columns {x0} to {x1}; the halo is {halo} pixels "
            "(tiles.halo): allow more than the longest side of an object",
        )
    return instances
