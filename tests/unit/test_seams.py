"""Objects over seams: each comes once and whole, whatever the tiles, their order, and their quirks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segpipe.geometry import Box
from segpipe.masks.seams import merge_tiles
from segpipe.planning.tiles import Tiling, plan_tiles
from tests.tiled import Thing, answer, as_set, bar, dense, jittered, things

SHAPE = (70, 90)


@st.composite
def scenes(
    draw: st.DrawFn, shape: tuple[int, int], core: int, halo: tuple[int, int], thick: int, **more
) -> tuple[Tiling, list[Thing]]:
    tiling = plan_tiles(shape, core, draw(st.integers(*halo)), 1)
    corners = [(y, x) for y in tiling.row_borders[1:] for x in tiling.column_borders[1:]]
    return tiling, draw(things(shape, corners, thick, **more))


@settings(deadline=None, max_examples=200)
@given(scenes(SHAPE, 20, (3, 40), thick=2), st.randoms(use_true_random=False))
def test_tiled_is_untiled(scene: tuple[Tiling, list[Thing]], random) -> None:
    """Exactly, whatever overlaps, touches or exceeds the halo, and in whatever order tiles come."""
    tiling, truth = scene
    tiles = list(tiling)
    random.shuffle(tiles)
    found, merged = merge_tiles(tiling, [(tile, answer(truth, tile.grown)) for tile in tiles])
    assert as_set(found) == as_set(answer(truth, Box(0, 0, *SHAPE)))
    assert not merged.incomplete.any()


@settings(deadline=None, max_examples=60)
@given(scenes((180, 220), 60, (20, 90), thick=16, apart=4), st.integers(0, 2**32 - 1))
def test_tiles_that_disagree_by_a_pixel_neither_lose_nor_double_an_object(
    scene: tuple[Tiling, list[Thing]], seed: int
) -> None:
    tiling, truth = scene
    rng = np.random.default_rng(seed)
    found, merged = merge_tiles(tiling, [(tile, jittered(truth, tile, rng)) for tile in tiling])
    assert len(found.masks) == len(truth)
    assert not merged.incomplete.any()
    left = [dense(mask, tiling.shape) for mask in found.masks]
    for thing in truth:
        ious = [(one & thing.pixels).sum() / (one | thing.pixels).sum() for one in left]
        assert max(ious) > 0.8
        del left[int(np.argmax(ious))]
