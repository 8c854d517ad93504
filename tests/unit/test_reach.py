"""Masks that end just before an edge reach it, so that a cut is known as one."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from segpipe.geometry import Box
from segpipe.masks.seams import merge_tiles
from segpipe.masks.seams.reach import reach_edges
from segpipe.planning.tiles import Tile, plan_tiles
from segpipe.records import CroppedMask, Instances
from tests.tiled import Thing, answer, as_set, bar, dense, things

SHAPE = (70, 90)
SEEN = Box(0, 20, 50, 60)
"""At the image's upper border; the other three sides are edges."""

WITHIN = 3


def test_an_edge_is_reached_from_a_few_pixels_away_and_a_border_is_not() -> None:
    mask = bar(SHAPE, 2, 23, 44, 30)
    (found,) = reach_edges(of(mask), SEEN, SHAPE, WITHIN).masks
    expected = bar(SHAPE, 2, 20, 44, 33)
    assert np.array_equal(dense(found, SHAPE), expected)
    (below,) = reach_edges(of(bar(SHAPE, 20, 30, 27, 26)), SEEN, SHAPE, WITHIN).masks
    assert np.array_equal(dense(below, SHAPE), bar(SHAPE, 20, 30, 30, 26))


def of(*masks: np.ndarray) -> Instances:
    return answer([Thing(mask, 1, 0.5) for mask in masks], Box(0, 0, *SHAPE))


@given(things(SHAPE, [(50, 60), (50, 20)], 2), st.integers(0, 5))
@settings(deadline=None)
def test_only_pixels_next_to_an_edge_are_added(scene: list[Thing], within: int) -> None:
    before = answer(scene, SEEN)
    after = reach_edges(before, SEEN, SHAPE, within)
    inner = Box(0, SEEN.x0 + within, SEEN.y1 - within, SEEN.x1 - within)
    for one, other in zip(before.masks, after.masks, strict=True):
        was, now = dense(one, SHAPE), dense(other, SHAPE)
        added = now & ~was
        assert not (was & ~now).any()
        assert not added[inner.slices].any()
        outside = np.ones(SHAPE, np.bool_)
        outside[SEEN.slices] = False
        assert not (now & outside).any()
    assert np.array_equal(before.scores, after.scores)


def shy(scene: list[Thing], tile: Tile, shape: tuple[int, int], short: int) -> Instances:
    """Nothing is seen of an object in the last pixels before an edge."""
    grown = tile.grown
    window = Box(
        grown.y0 + (short if grown.y0 else 0),
        grown.x0 + (short if grown.x0 else 0),
        grown.y1 - (short if grown.y1 < shape[0] else 0),
        grown.x1 - (short if grown.x1 < shape[1] else 0),
    )
    return answer(scene, window)


@given(st.data(), st.integers(20, 90), st.integers(0, WITHIN))
@settings(deadline=None, max_examples=50)
def test_what_ends_before_the_edges_of_tiles_is_put_together(
    data: st.DataObject, halo: int, short: int
) -> None:
    """Also objects that no tile sees whole: as if they had been drawn up to the edges."""
    shape = 180, 220
    tiling = plan_tiles(shape, 60, halo, 1)
    corners = [(y, x) for y in tiling.row_borders[1:] for x in tiling.column_borders[1:]]
    scene = data.draw(things(shape, corners, 20, apart=4))
    found = [
        (tile, reach_edges(shy(scene, tile, shape, short), tile.grown, shape, WITHIN))
        for tile in tiling
    ]
    together, merged = merge_tiles(tiling, found)
    assert as_set(together) == as_set(answer(scene, Box(0, 0, *shape)))
    assert not merged.incomplete.any()


def test_a_mask_with_empty_rows_reaches_from_its_pixels() -> None:
    mask = np.zeros((10, 10), np.bool_)
    mask[4:6, 4:8] = True
    objects = Instances((CroppedMask(30, 50, mask),), np.ones(1, np.float32), np.ones(1, np.int32))
    (found,) = reach_edges(objects, SEEN, SHAPE, WITHIN).masks
    assert np.array_equal(dense(found, SHAPE), bar(SHAPE, 34, 54, 2, 6))
