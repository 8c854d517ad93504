"""Both steps at once: what was found in all tiles of an image, to its objects.

What each tile found is held packed, a bit for each pixel in an object's box, so that the objects of
a slide fit into memory; and as columns, so that they can be stored and read back.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from segpipe.masks.seams.merging import Merged, merge
from segpipe.masks.seams.near import SeamObjects, near_seams
from segpipe.masks.seams.packed import Bools, PackedMasks, join, pack, stacked
from segpipe.planning.tiles import Tile, Tiling
from segpipe.records import Instances


@dataclass(frozen=True, slots=True, eq=False)
class TileObjects:
    """What was found in one tile.

    Attributes:
        tile: its number.
        masks: of M objects, in image coordinates.
        scores: (M,) float32.
        class_ids: (M,) int32.
        waiting: (M,) whether another tile may have seen it.
        cut, in_core: (M,) as in `SeamObjects`; of one that is not waiting they say nothing.
        saturated, n_discarded: as in `Instances`.
    """

    tile: int
    masks: PackedMasks
    scores: npt.NDArray[np.float32]
    class_ids: npt.NDArray[np.int32]
    waiting: Bools
    cut: Bools
    in_core: Bools
    saturated: bool = False
    n_discarded: int = 0

    @property
    def instances(self) -> Instances:
        """What was packed, each mask in its tight box."""
        about = self.saturated, self.n_discarded
        return Instances(self.masks.unpacked(), self.scores, self.class_ids, *about)

    @property
    def seam(self) -> SeamObjects:
        """What `merge` needs of it."""
        near = np.flatnonzero(self.waiting)
        return SeamObjects(
            tile=self.tile,
            settled=np.flatnonzero(~self.waiting),
            indices=near,
            class_ids=self.class_ids[near],
            scores=self.scores[near],
            masks=self.masks.take(near),
            cut=self.cut[near],
            in_core=self.in_core[near],
        )


@dataclass(frozen=True, slots=True, eq=False)
class WholeObjects:
    """The objects of an image, in the order of their labels 1..N.

    Attributes:
        masks: of N objects.
        scores: (N,) float32, descending, NaN last.
        class_ids: (N,) int32.
        incomplete: (N,) as in `Merged`.
    """

    masks: PackedMasks
    scores: npt.NDArray[np.float32]
    class_ids: npt.NDArray[np.int32]
    incomplete: Bools

    def __len__(self) -> int:
        return len(self.scores)


def pack_tile(tiling: Tiling, tile: Tile, objects: Instances) -> TileObjects:
    """What a segmenter found in a tile, in image coordinates.

    Raises:
        SpecError, InvariantError: as `near_seams`.
    """
    seam = near_seams(tiling, tile, objects)
    waiting, cut, in_core = np.zeros((3, len(objects.masks)), np.bool_)
    waiting[seam.indices], cut[seam.indices], in_core[seam.indices] = True, seam.cut, seam.in_core
    return TileObjects(
        seam.tile,
        pack(objects.masks),
        objects.scores,
        objects.class_ids,
        waiting,
        cut,
        in_core,
        saturated=objects.saturated,
        n_discarded=objects.n_discarded,
    )


def whole_objects(tiling: Tiling, parts: Sequence[TileObjects]) -> tuple[WholeObjects, Merged]:
    """The objects of an image, best score first, and then by tile, position and united or not.

    Args:
        parts: of each tile once, in any order.

    Returns:
        The objects of the image; what became of those near seams.

    Raises:
        InvariantError, BudgetError: as `merge`.
    """
    parts = sorted(parts, key=lambda part: part.tile)
    merged = merge(tiling, (part.seam for part in parts))
    settled = [~part.waiting for part in parts]
    masks = join([*(p.masks.take(s) for p, s in zip(parts, settled, strict=True)), *merged.masks])
    scores = [*(p.scores[s] for p, s in zip(parts, settled, strict=True)), merged.scores]
    class_ids = [*(p.class_ids[s] for p, s in zip(parts, settled, strict=True)), merged.class_ids]
    indices = [np.flatnonzero(flags) for flags in settled]
    tiles = [np.full(len(own), p.tile) for p, own in zip(parts, indices, strict=True)]
    all_scores = stacked(scores, np.float32)
    order = np.lexsort(
        (
            np.concatenate((*indices, merged.indices)),
            np.concatenate((*tiles, merged.tiles)),
            -all_scores,
        )
    )
    n_settled = len(all_scores) - len(merged)
    incomplete = np.concatenate((np.zeros(n_settled, np.bool_), merged.incomplete))
    whole = WholeObjects(
        masks.take(order), all_scores[order], stacked(class_ids, np.int32)[order], incomplete[order]
    )
    return whole, merged


def merge_tiles(
    tiling: Tiling, found: Iterable[tuple[Tile, Instances]]
) -> tuple[Instances, Merged]:
    """The same of an image whose objects are not packed.

    Args:
        found: of each tile once, in any order; in image coordinates.

    Raises:
        SpecError, InvariantError, BudgetError: as `near_seams` and `merge`.
    """
    parts = [pack_tile(tiling, tile, objects) for tile, objects in found]
    whole, merged = whole_objects(tiling, parts)
    instances = Instances(
        masks=whole.masks.unpacked(),
        scores=whole.scores,
        class_ids=whole.class_ids,
        saturated=any(part.saturated for part in parts),
        n_discarded=sum(part.n_discarded for part in parts),
    )
    return instances, merged
