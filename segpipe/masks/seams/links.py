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
    that one, and, if that one has a counterpart, in what this leaves of it. Nested objects, whose
    outer ones are counterparts, so are no fragments.

    Where a version is cut, the two have to share as many pixels as the halo is wide: every object
    larger than the halo that lies in two neighbouring cores does, and a few pixels in a corner say
    nothing. Nor does what a counterpart leaves there. Rims link nothing; but an object whose
    counterpart is a rim is not a fragment.

    Returns:
        Positions (L,) and (L,) of the versions.
    """
    cut = versions.cut[pairs.a] | versions.cut[pairs.b]
    same_class = versions.class_ids[pairs.a] == versions.class_ids[pairs.b]
    rims = versions.rims[pairs.a] | versions.rims[pairs.b]
    linkable = ~rims & (~cut | (pairs.common >= halo))

    slots = _slots(versions.tiles, pairs)
    iou = pairs.common / (pairs.seen_a + pairs.seen_b - pairs.common)
    apart = np.abs(versions.scores[pairs.a] - versions.scores[pairs.b])
    order = np.lexsort((pairs.b, pairs.a, apart, -iou, ~same_class))
    candidate = (iou >= min_iou) & (same_class | ~cut)
    counterparts, taken = np.zeros(len(iou), np.bool_), np.zeros(slots.count, np.bool_)
    _take_best(order[candidate[order]], slots.a, slots.b, taken, counterparts)

    fragments = _fragments(pairs, cut, slots, counterparts, taken, min_inside)
    chosen = linkable & (counterparts | (fragments & same_class))
    return pairs.a[chosen], pairs.b[chosen]


@dataclass(frozen=True, slots=True, eq=False)
class _Slots:
    """A number for each version and another tile, where it has one place for a counterpart.

    Attributes:
        a, b: (K,) of the pairs: of a in b's tile, and the other way round.
        count: how many there are.
    """

    a: Int64s
    b: Int64s
    count: int


def _slots(tiles: Int64s, pairs: Pairs) -> _Slots:
    many = int(tiles.max(initial=0)) + 1
    keys = np.concatenate((pairs.a * many + tiles[pairs.b], pairs.b * many + tiles[pairs.a]))
    present, slots = np.unique(keys, return_inverse=True)
    return _Slots(slots[: len(pairs.a)], slots[len(pairs.a) :], len(present))


def _fragments(
    pairs: Pairs, cut: Bools, slots: _Slots, counterparts: Bools, taken: Bools, min_inside: float
) -> Bools:
    """(K,) whether the smaller of a pair has no counterpart, and lies in what is free of the other.

    Args:
        cut: (K,) whether one of the pair is.
        counterparts: (K,).
        taken: (slots,) whether it has a counterpart.
    """
    left = np.zeros(slots.count, np.int64)
    common = pairs.common[counterparts]
    left[slots.a[counterparts]] = pairs.seen_a[counterparts] - common
    left[slots.b[counterparts]] = pairs.seen_b[counterparts] - common
    a_is_smaller = pairs.seen_a <= pairs.seen_b
    smaller = np.where(a_is_smaller, slots.a, slots.b)
    larger = np.where(a_is_smaller, slots.b, slots.a)
    free = ~taken[larger] | (~cut & (min_inside * pairs.common <= left[larger]))
    inside = pairs.common >= min_inside * np.minimum(pairs.seen_a, pairs.seen_b)
    return np.asarray(inside & ~taken[smaller] & free)


@compiled
def _take_best(
    order: Int64s, slots_a: Int64s, slots_b: Int64s, taken: Bools, counterparts: Bools
) -> None:
    """Take pairs in turn whose slots are both free; `taken` and `counterparts` are written."""
    for k in order:
        if not taken[slots_a[k]] and not taken[slots_b[k]]:
            taken[slots_a[k]] = taken[slots_b[k]] = counterparts[k] = True
