"""Both steps at once, for an image whose objects fit into memory."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from segpipe.masks.seams.merging import Merged, merge
from segpipe.masks.seams.near import near_seams
from segpipe.planning.tiles import Tile, Tiling
from segpipe.records import Instances


def merge_tiles(
    tiling: Tiling, found: Iterable[tuple[Tile, Instances]]
) -> tuple[Instances, Merged]:
    """The objects of an image, best score first, and then by tile, position and united or not.

    Args:
        found: of each tile once, in any order; in image coordinates.

    Returns:
        The objects of the image; what became of those near seams.

    Raises:
        SpecError, InvariantError, BudgetError: as `near_seams` and `merge`.
    """
    tiles = sorted(found, key=lambda pair: tiling.number(pair[0]))
    seams = [near_seams(tiling, tile, objects) for tile, objects in tiles]
    merged = merge(tiling, seams)
    masks, scores, class_ids, places = [], [], [], []
    for (_, objects), seam in zip(tiles, seams, strict=True):
        masks += [objects.masks[i] for i in seam.settled.tolist()]
        scores.append(objects.scores[seam.settled])
        class_ids.append(objects.class_ids[seam.settled])
        places += [(seam.tile, i) for i in seam.settled.tolist()]
    masks += [merged.mask(i) for i in range(len(merged))]
    places += zip(merged.tiles.tolist(), merged.indices.tolist(), strict=True)
    all_scores = np.concatenate((*scores, merged.scores))
    all_ids = np.concatenate((*class_ids, merged.class_ids))
    tile, index = np.array(places, np.int64).reshape(-1, 2).T
    order = np.lexsort((index, tile, -all_scores))
    whole = Instances(
        masks=tuple(masks[i] for i in order.tolist()),
        scores=all_scores[order],
        class_ids=all_ids[order],
        saturated=any(objects.saturated for _, objects in tiles),
        n_discarded=sum(objects.n_discarded for _, objects in tiles),
    )
    return whole, merged
