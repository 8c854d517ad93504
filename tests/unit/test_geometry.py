"""Boxes are sets of pixels."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from segpipe.geometry import Box

EDGE = st.integers(-5, 12)
BOXES = st.builds(Box, EDGE, EDGE, EDGE, EDGE)


def pixels(box: Box) -> set[tuple[int, int]]:
    return {(y, x) for y in range(box.y0, box.y1) for x in range(box.x0, box.x1)}


@given(BOXES, BOXES)
def test_intersection_is_that_of_the_pixels(a: Box, b: Box) -> None:
    assert pixels(a.intersect(b)) == pixels(a) & pixels(b)
    assert a.contains(b) == (pixels(b) <= pixels(a))
    assert a.area == len(pixels(a))


@given(BOXES, st.integers(0, 4), st.integers(-3, 3), st.integers(-3, 3))
def test_growing_and_shifting(box: Box, halo: int, dy: int, dx: int) -> None:
    assert box.grow(halo).contains(box)
    assert pixels(box.shift(dy, dx)) == {(y + dy, x + dx) for y, x in pixels(box)}


@given(BOXES)
def test_a_clipped_box_slices_its_pixels(box: Box) -> None:
    image = np.zeros((10, 10), int)
    image[box.clip(image.shape).slices] = 1
    assert image.sum() == len({(y, x) for y, x in pixels(box) if 0 <= y < 10 and 0 <= x < 10})


@given(BOXES, st.integers(1, 7), st.integers(1, 7))
def test_blocks_cover_each_pixel_once(box: Box, height: int, width: int) -> None:
    parts = list(box.blocks(height, width))
    assert all(0 < part.height <= height and 0 < part.width <= width for part in parts)
    assert sum(part.area for part in parts) == box.area
    assert set().union(*map(pixels, parts)) == pixels(box)
    assert parts == sorted(parts)
