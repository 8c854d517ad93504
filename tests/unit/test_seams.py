"""Objects over seams: each once and whole, whatever the tiles, their order, and their quirks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from segpipe.errors import BudgetError, InvariantError, SpecError
from segpipe.geometry import Box
from segpipe.masks.seams import Merged, Verdict, merge, merge_tiles, near_seams
from segpipe.masks.seams.elect import elect
from segpipe.masks.seams.packed import join, pack
from segpipe.masks.seams.pairs import find_pairs
from segpipe.planning.tiles import Tiling, plan_tiles
from segpipe.records import CroppedMask, Instances
from tests.tiled import Thing, answer, as_set, bar, dense, disc, jittered, things

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
@given(scenes((180, 220), 60, (20, 90), thick=20, apart=4), st.integers(0, 2**32 - 1))
def test_tiles_that_disagree_by_a_pixel_neither_lose_nor_double_an_object(
    scene: tuple[Tiling, list[Thing]], seed: int
) -> None:
    tiling, truth = scene
    rng = np.random.default_rng(seed)
    answers = [(tile, jittered(truth, tile, rng)) for tile in tiling]
    found, _ = merge_tiles(tiling, answers)
    assert as_set(found) == as_set(merge_tiles(tiling, answers[::-1])[0])
    assert len(found.masks) == len(truth)
    left = [dense(mask, tiling.shape) for mask in found.masks]
    for thing in truth:
        ious = [(one & thing.pixels).sum() / (one | thing.pixels).sum() for one in left]
        assert max(ious) > 0.8
        del left[int(np.argmax(ious))]


@settings(deadline=None)
@given(scenes(SHAPE, 20, (3, 40), thick=2))
def test_what_settled_and_what_reaches_a_core_is_all_that_is_painted_there(
    scene: tuple[Tiling, list[Thing]],
) -> None:
    tiling, truth = scene
    found = {number: answer(truth, tile.grown) for number, tile in enumerate(tiling)}
    seams = [near_seams(tiling, tiling[number], one) for number, one in found.items()]
    merged = merge(tiling, seams)
    expected = np.zeros(SHAPE, int)
    for thing in truth:
        expected += thing.pixels
    for seam in seams:
        core = tiling[seam.tile].core
        painted = np.zeros(SHAPE, int)
        masks = [found[seam.tile].masks[i] for i in seam.settled]
        masks += [merged.mask(i) for i in merged.reaching(seam.tile)]
        for mask in masks:
            painted += dense(mask, SHAPE)
        assert np.array_equal(painted[core.slices], expected[core.slices])


TWO = plan_tiles((40, 80), 40, 20)
"""Two tiles, with the border at column 40 and 20 columns of halo on each side of it."""


def instances(*masks: np.ndarray, class_ids: Sequence[int] = ()) -> Instances:
    """Objects of (40, 80) masks; of one class, unless told."""
    return answer(
        [
            Thing(mask, class_ids[i] if class_ids else 1, 0.9 - i / 10)
            for i, mask in enumerate(masks)
        ],
        Box(0, 0, 40, 80),
    )


def pair(left: Instances, right: Instances) -> tuple[Instances, Merged]:
    return merge_tiles(TWO, [(TWO[0], left), (TWO[1], right)])


def verdicts(merged: Merged) -> Mapping[int, list[int]]:
    return {tile: found.tolist() for tile, found in merged.verdicts.items()}


@pytest.mark.parametrize("shift", [-1, 1])
def test_versions_that_each_call_the_other_or_themselves_are_one_object(shift: int) -> None:
    """Their anchors lie on both sides of the border; one stays, never none and never two."""
    versions = (
        bar((40, 80), 10, 35 + (shift > 0), 8, 10),
        bar((40, 80), 10, 35 - (shift < 0), 8, 10),
    )
    left, right = (instances(one) for one in versions[::shift])
    found, _ = pair(left, right)
    assert len(found.masks) == 1


def test_a_class_that_wavers_doubles_nothing_and_loses_nothing() -> None:
    for columns in ((35, 34), (34, 35)):
        left, right = (bar((40, 80), 10, x, 8, 10) for x in columns)
        found, _ = pair(instances(left, class_ids=[1]), instances(right, class_ids=[2]))
        assert len(found.masks) == 1


def test_classes_that_lie_upon_each_other_stay_apart() -> None:
    cell, nucleus = disc((40, 80), 20, 40, 10), disc((40, 80), 20, 40, 9)
    both = instances(cell, nucleus, class_ids=[1, 2])
    found, _ = pair(both, both)
    assert as_set(found) == as_set(both)


def test_halves_and_the_whole_are_one_view() -> None:
    """One tile sees an object, the other two halves of it: the one or the other, not a mixture."""
    whole = bar((40, 80), 10, 34, 8, 13)
    halves = bar((40, 80), 10, 34, 8, 6), bar((40, 80), 10, 40, 8, 7)
    for views in ((instances(whole), instances(*halves)), (instances(*halves), instances(whole))):
        found, _ = pair(*views)
        assert as_set(found) in [as_set(view) for view in views]


def test_a_chain_of_versions_loses_no_object() -> None:
    """Of two neighbours the left tile sees one, the right one the other, and both as one."""
    first, second = bar((40, 80), 10, 26, 8, 10), bar((40, 80), 10, 36, 8, 14)
    merged_by_right = instances(first | second)
    found, _ = pair(instances(first, second), merged_by_right)
    assert as_set(found) in [as_set(instances(first, second)), as_set(merged_by_right)]


def test_what_its_owner_has_not_found_is_told_and_left_out() -> None:
    only_right = instances(bar((40, 80), 10, 25, 8, 8))
    found, merged = pair(instances(), only_right)
    assert len(found.masks) == 0
    assert verdicts(merged) == {0: [], 1: [Verdict.UNCONFIRMED]}


def test_a_cut_that_nobody_continues_is_told() -> None:
    """The left tile sees up to column 60, the right one from column 20 on."""
    road = bar((40, 80), 10, 5, 6, 70)
    left = instances(road & (np.arange(80) < 60))
    right = instances(road & (np.arange(80) >= 20))
    _, merged = pair(left, right)
    assert not merged.incomplete.any()
    assert verdicts(merged) == {0: [Verdict.UNITED], 1: [Verdict.UNITED]}
    for alone in (pair(left, instances()), pair(instances(), right)):
        assert alone[1].incomplete.tolist() == [True]


def test_an_arm_that_nobody_continues_is_told_though_another_goes_on() -> None:
    arms = bar((40, 80), 5, 5, 6, 70) | bar((40, 80), 25, 5, 6, 70) | bar((40, 80), 5, 5, 26, 6)
    left = instances(arms & (np.arange(80) < 60))
    right = instances(bar((40, 80), 5, 20, 6, 55))
    _, merged = pair(left, right)
    assert merged.incomplete.tolist() == [True]


def test_pieces_are_put_together_core_by_core_with_the_best_score() -> None:
    """Where two tiles draw a road differently, each has the say in its own core."""
    wide, narrow = bar((40, 80), 10, 5, 10, 70), bar((40, 80), 11, 5, 8, 70)
    left = answer([Thing(wide, 1, 0.5)], TWO[0].grown)
    right = answer([Thing(narrow, 1, 0.75)], TWO[1].grown)
    found, _ = pair(left, right)
    expected = np.where(np.arange(80) < 40, wide, narrow)
    assert as_set(found) == as_set(answer([Thing(expected, 1, 0.75)], Box(0, 0, 40, 80)))


def test_a_line_that_ends_just_over_the_border_is_one_object() -> None:
    """The right tile has one pixel of it in its core, and both tiles see as many as the halo."""
    line = Thing(bar((40, 80), 10, 0, 1, 41), 1, 0.5)
    found, merged = pair(answer([line], TWO[0].grown), answer([line], TWO[1].grown))
    assert as_set(found) == as_set(answer([line], Box(0, 0, 40, 80)))
    assert not merged.incomplete.any()


def test_a_few_pixels_at_a_corner_join_nothing() -> None:
    """Tiles across a corner both see a small square; neighbours touch there, and overlap a bit."""
    tiling = plan_tiles((80, 80), 40, 10)
    small, large = bar((80, 80), 20, 20, 14, 12), bar((80, 80), 10, 31, 60, 30)
    found, merged = merge_tiles(
        tiling,
        [
            (tiling[0], answer([Thing(small, 1, 0.5)], tiling[0].grown)),
            (tiling[1], answer([], tiling[1].grown)),
            (tiling[2], answer([], tiling[2].grown)),
            (tiling[3], answer([Thing(large, 1, 0.5)], tiling[3].grown)),
        ],
    )
    assert len(found.masks) == 2
    assert merged.incomplete.tolist() == [False, True]


def test_objects_that_look_the_same_to_both_tiles_are_told_apart_by_their_scores() -> None:
    """Two roads, one within the other, full height: both fill what both tiles see."""
    roads = [
        Thing(bar((40, 80), 0, 5, 40, 70), 1, 0.75),
        Thing(bar((40, 80), 0, 10, 40, 60), 1, 0.5),
    ]
    left, right = (answer(roads, tile.grown) for tile in TWO)
    backwards = Instances(right.masks[::-1], right.scores[::-1], right.class_ids[::-1])
    found, _ = pair(left, backwards)
    assert as_set(found) == as_set(answer(roads, Box(0, 0, 40, 80)))


def test_nested_objects_stay_apart_though_one_tile_misses_one_of_them() -> None:
    outer, inner = disc((40, 80), 20, 42, 12), disc((40, 80), 20, 36, 5)
    found, _ = pair(instances(outer, inner), instances(outer))
    assert as_set(found) == as_set(instances(outer, inner))
    road = Thing(bar((40, 80), 10, 5, 12, 70), 1, 0.75)
    car = Thing(bar((40, 80), 12, 35, 6, 7), 1, 0.5)
    found, merged = pair(answer([car], TWO[0].grown), answer([road, car], TWO[1].grown))
    assert as_set(answer([car], Box(0, 0, 40, 80)))[0] in as_set(found)
    assert (len(found.masks), merged.incomplete.sum()) == (2, 1)


def test_what_the_winner_does_not_reach_is_elected_again() -> None:
    """Of a chain the middle is dropped for the first; the last has nothing to do with that."""
    tiles, areas = np.array([0, 1, 2]), np.array([9, 8, 7])
    first, second = np.array([0, 1]), np.array([1, 2])
    stay, unmet = elect(tiles, np.array([0, 0, 2]), areas, first, second)
    assert (stay.tolist(), unmet.tolist()) == ([True, False, True], [False] * 3)
    # The last one calls a tile that has nothing of it left.
    stay, unmet = elect(tiles, np.array([0, 0, 1]), areas, first, second)
    assert (stay.tolist(), unmet.tolist()) == ([True, False, False], [False, False, True])


def test_a_tie_is_for_the_lower_tile() -> None:
    for calls in ([3, 5], [5, 3]):
        stay, _ = elect(*map(np.array, ([5, 3], calls, [7, 7], [0], [1])))
        assert stay.tolist() == [False, True]


def test_an_object_too_large_for_memory_is_refused_with_both_numbers() -> None:
    road = bar((40, 80), 10, 5, 6, 70)
    seams = [near_seams(TWO, tile, answer([Thing(road, 1, 0.5)], tile.grown)) for tile in TWO]
    with pytest.raises(BudgetError, match=r"6 x 70 pixels .* 420 pixels, allowed are 400"):
        merge(TWO, seams, max_pixels=400)
    assert len(merge(TWO, seams, max_pixels=420)) == 1


def test_only_objects_near_seams_wait() -> None:
    far, near = bar((40, 80), 10, 2, 8, 10), bar((40, 80), 10, 15, 8, 6)
    seam = near_seams(TWO, TWO[0], instances(far, near))
    assert (seam.settled.tolist(), seam.indices.tolist()) == ([0], [1])
    assert len(seam.masks.bits) == 6  # 48 pixels


def test_empty_sides_of_a_crop_do_not_count() -> None:
    loose = CroppedMask(0, 0, bar((40, 80), 10, 2, 8, 10)[:, :60])
    one = Instances((loose,), np.ones(1, np.float32), np.ones(1, np.int32))
    assert near_seams(TWO, TWO[0], one).settled.tolist() == [0]


def test_what_a_tile_cannot_have_seen_is_refused() -> None:
    with pytest.raises(InvariantError, match="reaches out"):
        near_seams(TWO, TWO[0], instances(bar((40, 80), 0, 55, 5, 6)))
    empty = Instances(
        (CroppedMask(0, 30, np.zeros((2, 20), np.bool_)),),
        np.ones(1, np.float32),
        np.ones(1, np.int32),
    )
    with pytest.raises(InvariantError, match="no pixel"):
        near_seams(TWO, TWO[0], empty)
    seam = near_seams(TWO, TWO[0], instances())
    for wrong in ([], [seam], [seam, seam]):
        with pytest.raises(InvariantError, match="of 2 tiles"):
            merge(TWO, wrong)


def test_tiles_without_a_halo_are_refused_for_objects() -> None:
    bare = plan_tiles((40, 80), 40, 0)
    with pytest.raises(SpecError, match="halo of 0"):
        near_seams(bare, bare[0], instances())
    single = plan_tiles((40, 80), 80, 0)
    one = instances(bar((40, 80), 0, 5, 40, 70))
    found, _ = merge_tiles(single, [(single[0], one)])
    assert as_set(found) == as_set(one)


def test_nothing_at_all_merges_to_nothing() -> None:
    found, merged = pair(instances(), instances())
    assert (len(found.masks), len(merged)) == (0, 0)
    assert merged.reaching(1).tolist() == []


MASKS = st.builds(
    CroppedMask,
    st.integers(0, 60),
    st.integers(0, 60),
    hnp.arrays(np.bool_, hnp.array_shapes(min_dims=2, max_dims=2, max_side=70)),
).filter(lambda crop: crop.mask.any())


@settings(deadline=None)
@given(st.lists(MASKS, max_size=6), st.integers(0, 6))
def test_packed_masks_come_back(masks: list[CroppedMask], split: int) -> None:
    packed = join([pack(masks[:split]), pack(masks[split:])])
    assert len(packed) == len(masks)
    for index, mask in enumerate(masks):
        back = packed.mask(index)
        full = dense(mask, (130, 130))
        assert np.array_equal(dense(back, (130, 130)), full)
        assert packed.areas[index] == full.sum()
        y0, x0, y1, x1 = packed.boxes[index]
        assert (back.y0, back.x0, back.mask.shape) == (y0, x0, (y1 - y0, x1 - x0))
        assert back.mask[[0, -1]].any(1).all()
        assert back.mask[:, [0, -1]].any(0).all()


@settings(deadline=None)
@given(st.lists(st.tuples(MASKS, st.integers(0, 3), st.booleans()), max_size=12))
def test_pairs_are_all_that_share_pixels_and_no_other(
    versions: list[tuple[CroppedMask, int, bool]],
) -> None:
    masks = pack([mask for mask, _, _ in versions])
    tiles = np.array([tile for _, tile, _ in versions], np.int64)
    cut = np.array([cut for _, _, cut in versions], np.bool_)
    grown = np.array([[0, 0, 40, 130], [0, 0, 130, 50], [30, 20, 130, 130], [0, 0, 130, 130]])
    pairs = find_pairs(tiles, cut, masks, grown)
    full = [dense(mask, (130, 130)) for mask, _, _ in versions]
    seen = [Box(*box).slices for box in grown.tolist()]
    expected = []
    for b in range(len(full)):
        for a in range(b):
            common = int((full[a] & full[b]).sum())
            if tiles[a] != tiles[b] and common:
                of_a = full[a][seen[tiles[b]]] if cut[b] else full[a]
                of_b = full[b][seen[tiles[a]]] if cut[a] else full[b]
                expected.append((a, b, common, int(of_a.sum()), int(of_b.sum())))
    found = zip(pairs.a, pairs.b, pairs.common, pairs.seen_a, pairs.seen_b, strict=True)
    assert [tuple(map(int, one)) for one in found] == sorted(expected)
