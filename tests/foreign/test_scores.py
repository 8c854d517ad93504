"""The comparison counts what it says: tried on objects that are doubled, cut and left out."""

from __future__ import annotations

import numpy as np
import pytest

from segpipe.geometry import Box
from segpipe.records import CroppedMask, Instances
from tests.foreign.jobs import Job, overlapping
from tests.foreign.scores import score, seam_length

TRUTH = np.zeros((40, 60), np.uint32)
TRUTH[5:15, 25:35] = 1
TRUTH[25:35, 5:15] = 2
SLICES = [Box(0, 0, 40, 35), Box(0, 25, 40, 60)]


def objects(*boxes: tuple[int, int, int, int]) -> Instances:
    masks = tuple(
        CroppedMask(y0, x0, np.ones((y1 - y0, x1 - x0), np.bool_)) for y0, x0, y1, x1 in boxes
    )
    return Instances(masks, np.linspace(1, 0.5, len(masks), dtype=np.float32), np.ones(len(masks)))


FIRST, SECOND = (5, 25, 15, 35), (25, 5, 35, 15)
WHOLE = objects(FIRST, SECOND)


def test_what_is_found_as_it_is_has_no_fault() -> None:
    its = score(WHOLE, WHOLE, TRUTH, SLICES)
    assert (its.ap50, its.ap, its.agreement) == (pytest.approx(1), pytest.approx(1), 1)
    assert (its.duplicates, its.split, its.lost, its.gained, its.seam) == (0, 0, 0, 0, 40)


def test_pairs_are_told_apart_by_where_they_meet() -> None:
    at_seam = score(objects(FIRST, SECOND, (5, 25, 15, 31)), WHOLE, TRUTH, SLICES)
    assert (at_seam.duplicates, at_seam.on_seams, at_seam.split) == (1, 1, 1)
    assert at_seam.agreement == 2 / 3
    elsewhere = score(objects(FIRST, SECOND, SECOND), WHOLE, TRUTH, SLICES)
    assert (elsewhere.duplicates, elsewhere.on_seams) == (1, 0)


def test_halves_are_split_and_what_is_missing_is_lost() -> None:
    halves = score(objects((5, 25, 15, 30), (5, 30, 15, 35)), WHOLE, TRUTH, SLICES)
    assert (halves.duplicates, halves.split, halves.lost, halves.gained) == (0, 1, 1, 0)
    none = score(objects(), WHOLE, TRUTH, SLICES)
    assert (none.objects, none.lost, none.agreement) == (0, 2, 0)
    assert score(WHOLE, objects(FIRST), TRUTH, SLICES).gained == 1


def test_slices_cover_the_image_and_end_with_it() -> None:
    slices = overlapping(Job(np.zeros((100, 70, 1), np.uint8), 40, 10, 1))
    seen = np.zeros((100, 70), bool)
    for one in slices:
        assert (one.height, one.width) == (40, 40)
        seen[one.slices] = True
    assert seen.all()
    assert len(slices) == 6
    assert seam_length(slices) == 2 * 70 + 100
