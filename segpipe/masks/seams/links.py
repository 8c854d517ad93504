"""Which versions are of one object: the same seen twice, or a fragment and what it is a part of."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from segpipe.compiled import compiled
from segpipe.masks.seams.packed import Bools, Int64s
from segpipe.masks.seams.pairs import Pairs


@dataclass(frozen=True, slots=True, eq=False)
class Versions:
    """What of N versions decides whether they belong together.

    Attributes:
        tiles: (N,) the numbers of their tiles.
        class_ids: (N,) int32.
        scores: (N,) float32; NaN where there is none.
        cut: (N,) as in `SeamObjects`.
        in_core: (N,) the same.
    """

    tiles: Int64s
    class_ids: npt.NDArray[np.int32]
    scores: npt.NDArray[np.float32]
    cut: Bools
    in_core: Bools

    @property
    def rims(self) -> Bools:
        """(N,) what a tile sees of an object only at the rim of its halo, cut, and none in its
        core. Each pixel of such an object lies in another core, whose tile has seen more of it.
        """
        return self.cut & ~self.in_core


def link(
    versions: Versions, pairs: Pairs, halo: int, min_iou: float, min_inside: float
) -> tuple[Int64s, Int64s]:
    """Pairs of versions that are of one object.

    First each version finds its counterpart in every other tile: the best pairs by IoU, at least
    `min_iou`, each version in one of them, those of one class before others, since a network may
    waver; whatever ties, the nearest scores decide. Then a version that found none in a tile may
    be a fragment of a larger one there, of its class: where at least `min_inside` of it lies in
    that one, and in what the larger one's own counterpart leaves of it. Nested objects, whose
    outer ones are counterparts, so are no fragments.

    A version that is cut has to share as many pixels as the halo is wide: every object larger
    than the halo that lies in two neighbouring cores does, and a few pixels in a corner say
    nothing. Rims link nothing; but an object whose counterpart is a rim is not a fragment.

    Returns:
        Positions (L,) and (L,) of the versions.
    """
    iou = pairs.common / (pairs.seen_a + pairs.seen_b - pairs.common)
    inside = pairs.common / np.minimum(pairs.seen_a, pairs.seen_b)
    cut = versions.cut[pairs.a] | versions.cut[pairs.b]
    same_class = versions.class_ids[pairs.a] == versions.class_ids[pairs.b]
    rims = versions.rims[pairs.a] | versions.rims[pairs.b]
    linkable = ~rims & (~cut | (pairs.common >= halo))

    candidate = (iou >= min_iou) & (same_class | ~cut)
    apart = np.abs(versions.scores[pairs.a] - versions.scores[pairs.b])
    order = np.lexsort((pairs.b, pairs.a, apart, -iou, ~same_class))
    slots_a, slots_b, n_slots = _slots(versions.tiles, pairs)
    counterparts = np.zeros(len(iou), np.bool_)
    taken = np.zeros(n_slots, np.bool_)
    _take_best(order[candidate[order]], slots_a, slots_b, taken, counterparts)

    fragments = same_class & (inside >= min_inside)
    fragments &= _left_over(pairs, counterparts, taken, slots_a, slots_b, min_inside)
    chosen = linkable & (counterparts | fragments)
    return pairs.a[chosen], pairs.b[chosen]


def _slots(tiles: Int64s, pairs: Pairs) -> tuple[Int64s, Int64s, int]:
    """A number for each (version, other tile) of the pairs: (K,) of a, (K,) of b, how many."""
    many = int(tiles.max(initial=0)) + 1
    keys = np.concatenate((pairs.a * many + tiles[pairs.b], pairs.b * many + tiles[pairs.a]))
    present, slots = np.unique(keys, return_inverse=True)
    return slots[: len(pairs.a)], slots[len(pairs.a) :], len(present)


def _left_over(
    pairs: Pairs,
    counterparts: Bools,
    taken: Bools,
    slots_a: Int64s,
    slots_b: Int64s,
    min_inside: float,
) -> Bools:
    """(K,) whether the smaller of a pair has no counterpart, and the larger room for it."""
    room = np.where(taken, 0.0, np.inf)
    common = pairs.common[counterparts]
    room[slots_a[counterparts]] = pairs.seen_a[counterparts] - common
    room[slots_b[counterparts]] = pairs.seen_b[counterparts] - common
    a_is_smaller = pairs.seen_a <= pairs.seen_b
    smaller, larger = (
        np.where(a_is_smaller, one, other)
        for one, other in ((slots_a, slots_b), (slots_b, slots_a))
    )
    return np.asarray(~taken[smaller] & (min_inside * pairs.common <= room[larger]))


@compiled
def _take_best(
    order: Int64s, slots_a: Int64s, slots_b: Int64s, taken: Bools, counterparts: Bools
) -> None:
    """Take pairs in turn whose slots are both free; `taken` and `counterparts` are written."""
    for k in order:
        if not taken[slots_a[k]] and not taken[slots_b[k]]:
            taken[slots_a[k]] = taken[slots_b[k]] = counterparts[k] = True
