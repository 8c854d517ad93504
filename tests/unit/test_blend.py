"""Blended maps: weights add up to one, what all tiles say stays, and a region needs its tiles."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segpipe.errors import InvariantError
from segpipe.geometry import Box
from segpipe.masks.blend import Weights, blend, core_weights, gaussian_weights
from segpipe.planning.tiles import Tiling, plan_tiles

WEIGHTS = st.sampled_from([gaussian_weights, core_weights])
TILINGS = st.builds(
    plan_tiles,
    st.tuples(st.integers(1, 60), st.integers(1, 60)),
    st.integers(4, 30),
    st.integers(0, 20),
    st.integers(1, 4),
)


@given(TILINGS, WEIGHTS)
def test_weights_add_up_to_one_everywhere(tiling: Tiling, weights: Weights) -> None:
    total = np.zeros(tiling.shape)
    for tile in tiling:
        share = weights(tiling, tile)
        assert share.dtype == np.float32
        assert share.min() >= 0
        total[tile.grown.slices] += share
    assert np.allclose(total, 1, rtol=0, atol=1e-6)


@settings(deadline=None)
@given(TILINGS, WEIGHTS, st.lists(st.floats(-1e4, 1e4, width=32), min_size=1, max_size=3))
def test_what_all_tiles_say_stays(tiling: Tiling, weights: Weights, values: list[float]) -> None:
    said = np.array(values, np.float32)[:, None, None]
    maps = [(t, np.broadcast_to(said, (len(said), t.grown.height, t.grown.width))) for t in tiling]
    whole = blend(tiling, Box(0, 0, *tiling.shape), maps, weights)
    assert whole.dtype == np.float32
    assert np.allclose(whole, said, rtol=1e-6, atol=0)


@settings(deadline=None)
@given(TILINGS, WEIGHTS, st.randoms(use_true_random=False), st.integers(0, 9))
def test_a_core_by_itself_is_its_part_of_the_whole(
    tiling: Tiling, weights: Weights, random, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    maps = [
        (t, rng.normal(size=(2, t.grown.height, t.grown.width)).astype(np.float32)) for t in tiling
    ]
    shuffled = list(maps)
    random.shuffle(shuffled)
    whole = blend(tiling, Box(0, 0, *tiling.shape), maps, weights)
    for tile, own in maps:
        near = [(t, values) for t, values in shuffled if not t.grown.intersect(tile.core).empty]
        core = blend(tiling, tile.core, near, weights)
        assert np.array_equal(core, whole[:, *tile.core.slices])
        if weights is core_weights:
            inside = tile.core.shift(-tile.grown.y0, -tile.grown.x0)
            assert np.array_equal(core, own[:, *inside.slices])


def test_the_middle_counts_more_than_the_rim() -> None:
    tiling = plan_tiles((64, 96), 32, 8)
    tile = tiling[4]
    middle = gaussian_weights(tiling, tile)[8:40, 8:40]
    assert middle[16, 16] > 0.99
    assert gaussian_weights(tiling, tile)[0].max() < 0.2
    assert (np.diff(gaussian_weights(tiling, tile)[16, :24]) >= 0).all()


def test_a_missing_tile_a_second_copy_and_a_wrong_shape_are_refused() -> None:
    tiling = plan_tiles((20, 20), 10, 4)
    maps = [(t, np.ones((1, t.grown.height, t.grown.width), np.float32)) for t in tiling]
    for wrong in (maps[1:], [*maps, maps[0]]):
        with pytest.raises(InvariantError, match="add up to"):
            blend(tiling, tiling[0].core, wrong)
    with pytest.raises(InvariantError, match="shape"):
        blend(tiling, tiling[0].core, [(maps[0][0], maps[0][1][:, 1:]), *maps[1:]])
    with pytest.raises(InvariantError, match="no maps"):
        blend(tiling, tiling[0].core, [])
