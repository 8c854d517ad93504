"""Tiles: each pixel has one owner, whole shards have one writer, and owners see objects whole."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segpipe.errors import SpecError
from segpipe.geometry import Box
from segpipe.planning.tiles import Tiling, plan_tiles

SIDE = st.integers(1, 90)


@st.composite
def tilings(draw: st.DrawFn) -> tuple[Tiling, int, int]:
    """A tiling, the longest side of its cores, and the alignment."""
    align = draw(st.integers(1, 9))
    core_side = draw(st.integers(align, 40))
    shape = draw(st.tuples(SIDE, SIDE))
    return plan_tiles(shape, core_side, draw(st.integers(0, 50)), align), core_side, align


@given(tilings())
def test_cores_cover_each_pixel_once(planned: tuple[Tiling, int, int]) -> None:
    tiling, core_side, _ = planned
    owners = np.full(tiling.shape, -1)
    for number, tile in enumerate(tiling):
        assert tiling.number(tile) == number
        assert 0 < max(tile.core.height, tile.core.width) <= core_side
        assert (owners[tile.core.slices] == -1).all()
        owners[tile.core.slices] = number
    y, x = np.indices(tiling.shape)
    assert np.array_equal(tiling.owners(y.ravel(), x.ravel()), owners.ravel())
    assert tiling.owner(*(side - 1 for side in tiling.shape)) == len(tiling) - 1


@given(tilings())
def test_borders_are_aligned_and_sizes_balanced(planned: tuple[Tiling, int, int]) -> None:
    tiling, core_side, align = planned
    borders = zip((tiling.row_borders, tiling.column_borders), tiling.shape, strict=True)
    for (*inner, end), side in borders:
        assert end == side
        assert all(border % align == 0 for border in inner)
        # As few as can be, and in units of the alignment no two differ by more than one.
        units = -(-side // align)
        assert len(inner) == -(-units // (core_side // align))
        sizes = np.diff([*inner, units * align]) // align
        assert sizes.max() - sizes.min() <= 1


@given(tilings())
def test_a_tile_sees_its_halo_and_knows_what_it_sees_alone(
    planned: tuple[Tiling, int, int],
) -> None:
    tiling, *_ = planned
    seen = np.zeros(tiling.shape, int)
    for tile in tiling:
        seen[tile.grown.slices] += 1
        y, x = np.indices(tiling.shape)
        near = (y >= tile.core.y0 - tiling.halo) & (y < tile.core.y1 + tiling.halo)
        near &= (x >= tile.core.x0 - tiling.halo) & (x < tile.core.x1 + tiling.halo)
        assert tile.grown.area == near.sum() == near[tile.grown.slices].sum()
        height, width = tiling.largest
        assert tile.grown.height <= height
        assert tile.grown.width <= width
    for tile in tiling:
        lonely = np.zeros(tiling.shape, bool)
        alone = tiling.alone(tile)
        if not alone.empty:
            lonely[alone.slices] = True
        mine = np.zeros(tiling.shape, bool)
        mine[tile.grown.slices] = True
        assert np.array_equal(lonely, mine & (seen == 1))


@given(tilings(), st.data())
def test_an_object_below_the_halo_is_whole_where_it_is_owned(
    planned: tuple[Tiling, int, int], data: st.DataObject
) -> None:
    tiling, *_ = planned
    y0, x0 = (data.draw(st.integers(0, side - 1)) for side in tiling.shape)
    height, width = (data.draw(st.integers(1, max(1, tiling.halo - 1))) for _ in range(2))
    box = Box(y0, x0, y0 + height, x0 + width).clip(tiling.shape)
    anchor = (box.y0 + box.y1) // 2, (box.x0 + box.x1) // 2
    if tiling.halo:
        assert tiling[tiling.owner(*anchor)].grown.contains(box)


@pytest.mark.parametrize(
    ("shape", "core_side", "halo", "align"),
    [((0, 5), 8, 1, 1), ((5, 5), 0, 1, 1), ((5, 5), 8, 1, 9), ((5, 5), 8, -1, 1)],
)
def test_what_cannot_be_cut_is_refused(
    shape: tuple[int, int], core_side: int, halo: int, align: int
) -> None:
    with pytest.raises(SpecError, match=r"\d"):
        plan_tiles(shape, core_side, halo, align)


def test_there_is_no_tile_past_the_last() -> None:
    tiling = plan_tiles((10, 10), 5, 1)
    with pytest.raises(IndexError, match="4 of 4"):
        tiling[4]
