"""Objects of tiles: packed, kept row by row of tiles, merged over the seams (`masks.seams`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from segpipe.errors import BudgetError, InputError, Reason
from segpipe.geometry import Box
from segpipe.items import guarded
from segpipe.large.cut import rows_of
from segpipe.large.parts import Arrays, NarrowHaloError, ReadRow
from segpipe.masks.painted import Painted, paint_part
from segpipe.masks.seams import TileObjects, WholeObjects, pack_tile, whole_objects
from segpipe.masks.seams.packed import Int64s, PackedMasks, join
from segpipe.planning.tiles import Tile, Tiling
from segpipe.records import CroppedMask, DecodedImage
from segpipe.segmenters.base import PartSegmenter, View
from segpipe.segmenters.saturation import in_quarters, objects_at_first

_OF_TILES = ("tile", "saturated", "n_discarded")
_OF_OBJECTS = ("scores", "class_ids", "waiting", "cut", "in_core")
_OF_MASKS = ("boxes", "areas", "starts", "bits")


@dataclass(frozen=True, slots=True)
class InstanceParts:
    """For models whose answer on a tile is a list of objects."""

    segmenter: PartSegmenter[Any, Any]
    tiling: Tiling

    def found(self, tile: Tile, raw: Any, part: DecodedImage) -> TileObjects:
        shape = self.tiling.shape
        objects = guarded(objects_at_first, self.segmenter, raw, part, tile.grown, shape)
        return pack_tile(self.tiling, tile, objects)

    def refined(
        self, found: TileObjects, tile: Tile, read: Callable[[], DecodedImage], view: View
    ) -> TileObjects:
        """In quarters, and in quarters of these."""
        if not found.saturated:
            return found
        seen, shape, halo = tile.grown, self.tiling.shape, self.tiling.halo
        objects = guarded(
            in_quarters, self.segmenter, found.instances, read(), seen, shape, view, halo
        )
        return pack_tile(self.tiling, tile, objects)

    def arrays(self, found: Sequence[TileObjects]) -> dict[str, npt.NDArray[Any]]:
        masks = join([one.masks for one in found])
        return {
            "tile": np.array([one.tile for one in found], np.int64),
            "saturated": np.array([one.saturated for one in found], np.bool_),
            "n_discarded": np.array([one.n_discarded for one in found], np.int64),
            "n_objects": np.array([len(one.masks) for one in found], np.int64),
            **{name: np.concatenate([getattr(one, name) for one in found]) for name in _OF_OBJECTS},
            **{name: getattr(masks, name) for name in _OF_MASKS},
        }

    def whole(self, read_row: ReadRow) -> InstanceWhole:
        tiles = [one for row in range(rows_of(self.tiling)) for one in _tiles(read_row(row))]
        try:
            objects, _ = whole_objects(self.tiling, tiles)
        except BudgetError as error:
            raise InputError(Reason.TOO_LARGE, str(error)) from error
        _check_complete(objects, self.tiling.halo)
        if self.segmenter.spec.model.task == "boxes":
            # What is put together of several parts of a box has steps at their seams.
            objects = replace(objects, masks=objects.masks.filled())
        return InstanceWhole(
            objects,
            saturated=any(one.saturated for one in tiles),
            n_discarded=sum(one.n_discarded for one in tiles),
        )


def _tiles(row: Arrays) -> list[TileObjects]:
    """`InstanceParts.arrays` the other way round."""
    masks = PackedMasks(*(row[name] for name in _OF_MASKS))
    ends = np.cumsum(row["n_objects"]).tolist()
    tiles = []
    for index, (start, end) in enumerate(zip([0, *ends], ends, strict=False)):
        tile, saturated, n_discarded = (row[name][index].item() for name in _OF_TILES)
        columns: Any = {name: row[name][start:end] for name in _OF_OBJECTS}
        of_tile: Any = {"saturated": saturated, "n_discarded": n_discarded}
        tiles.append(TileObjects(tile, masks.between(start, end), **columns, **of_tile))
    return tiles


def _check_complete(objects: WholeObjects, halo: int) -> None:
    broken = np.flatnonzero(objects.incomplete)
    if len(broken):
        y0, x0, y1, x1 = objects.masks.boxes[broken[0]].tolist()
        raise NarrowHaloError(
            Reason.TOO_LARGE,
            f"{len(broken):,} objects of {len(objects):,} were not seen whole, the first "
            f"in rows {y0} to {y1} and columns {x0} to {x1}; the halo is {halo} pixels "
            "(tiles.halo): allow more than the longest side of an object",
        )


class InstanceWhole:
    """The merged objects."""

    def __init__(self, objects: WholeObjects, saturated: bool, n_discarded: int) -> None:
        self._masks = objects.masks
        self.boxes: Int64s = objects.masks.boxes
        self.scores, self.class_ids = objects.scores, objects.class_ids
        self.saturated, self.n_discarded = saturated, n_discarded

    def paint(self, box: Box) -> Painted:
        return paint_part(self._masks, box)

    def mask(self, number: int) -> CroppedMask:
        return self._masks.mask(number)

    def semantic(self, box: Box) -> None:  # noqa: ARG002 - pixels have no classes here
        return None
