"""Of several versions of an object, which stay: those of the tile that most of them call owner.

A version calls the tile whose core holds its anchor, the middle pixel of its box. Versions that
are the same call the same tile, and then nothing else counts. Versions of a real network differ,
so that two tiles may each call themselves, or each other: the larger number of pixels decides, and
then the tile's number. So one of them stays, whatever they say, and all that the tile has of the
object stays with it: where one tile sees an object and another two halves, one view is taken.
"""

from __future__ import annotations

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from segpipe.masks.seams.packed import X0, X1, Y0, Y1, Bools, Int64s
from segpipe.planning.tiles import Tiling


def called(tiling: Tiling, boxes: Int64s) -> Int64s:
    """(N,) the number of the tile whose core holds the anchor of each tight box (N, 4).

    An object that is no larger than twice the halo, and that the edge of a tile cuts, has no
    anchor in that tile's core: half of it would reach from the core to the edge.
    """
    middle = (boxes[:, Y0] + boxes[:, Y1]) // 2, (boxes[:, X0] + boxes[:, X1]) // 2
    return tiling.owners(*middle)


def groups_of(count: int, a: Int64s, b: Int64s) -> Int64s:
    """(count,) the group of each version, where links join a (L,) to b (L,)."""
    links = coo_array((np.ones(len(a), np.bool_), (a, b)), shape=(count, count))
    return np.asarray(connected_components(links, directed=False)[1], np.int64)


def elect(tiles: Int64s, calls: Int64s, areas: Int64s, a: Int64s, b: Int64s) -> tuple[Bools, Bools]:
    """Elect, group by group, until each version stays or is linked to one that does.

    A chain of links may be longer than one tile sees; what the winner's view does not reach is
    elected again. A version that calls a tile without a version of its group has no vote.

    Args:
        tiles: (N,) the number of each version's tile.
        calls: (N,) the number of the tile that it calls.
        areas: (N,) pixels.
        a, b: (L,) and (L,) the links.

    Returns:
        (N,) those that stay; (N,) those that none of these is linked to.
    """
    stay = np.zeros(len(tiles), np.bool_)
    left = np.arange(len(tiles))
    while len(left):
        place = np.full(len(tiles), -1)
        place[left] = np.arange(len(left))
        open_ = (place[a] >= 0) & (place[b] >= 0)
        from_, to = place[a[open_]], place[b[open_]]
        groups = groups_of(len(left), from_, to)
        wins = tiles[left] == _winners(groups, tiles[left], calls[left], areas[left])[groups]
        if not wins.any():
            break
        stay[left[wins]] = True
        settled = wins.copy()
        settled[to[wins[from_]]] = True
        settled[from_[wins[to]]] = True
        left = left[~settled]
    unmet = np.zeros(len(tiles), np.bool_)
    unmet[left] = True
    return stay, unmet


def _winners(groups: Int64s, tiles: Int64s, calls: Int64s, areas: Int64s) -> Int64s:
    """The tile of each group that most pixels call; -1 where they call none of the group's."""
    many = int(max(tiles.max(initial=0), calls.max(initial=0))) + 1
    present = np.unique(groups * many + tiles)
    vote = groups * many + calls
    place = np.minimum(np.searchsorted(present, vote), len(present) - 1)
    valid = present[place] == vote
    weight = np.bincount(place[valid], areas[valid], len(present))
    group, tile = np.divmod(present, many)
    order = np.lexsort((tile, -weight, group))
    first = order[np.unique(group[order], return_index=True)[1]]
    return np.where(weight[first] > 0, tile[first], -1)
