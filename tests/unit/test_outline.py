"""Outlines are exact: what is drawn back from them is the mask that they were made of."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage
from shapely.geometry import Polygon as Shape
from skimage.measure import points_in_poly

from segpipe.masks.outline import Polygon, outline, single_ring
from segpipe.records import CroppedMask

masks = st.tuples(st.integers(1, 9), st.integers(1, 9)).flatmap(
    lambda shape: arrays(np.bool_, shape)
)


def drawn(ring: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Pixels whose centre is inside, by the even-odd rule."""
    y, x = np.indices(shape)
    centres = np.stack([x.ravel() + 0.5, y.ravel() + 0.5], axis=1)
    return points_in_poly(centres, ring).reshape(shape)


def redrawn(polygons: tuple[Polygon, ...], shape: tuple[int, int]) -> np.ndarray:
    whole = np.zeros(shape, bool)
    for one in polygons:
        part = drawn(one.shell, shape)
        for hole in one.holes:
            part &= ~drawn(hole, shape)
        assert not (whole & part).any()
        whole |= part
    return whole


@given(masks)
@settings(deadline=None)  # the first call compiles
def test_what_is_drawn_back_is_the_mask(mask: np.ndarray) -> None:
    polygons = outline(CroppedMask(0, 0, mask))
    assert np.array_equal(redrawn(polygons, mask.shape), mask)
    assert len(polygons) == ndimage.label(mask)[1]
    if polygons:
        assert np.array_equal(drawn(single_ring(polygons), mask.shape), mask)


@given(masks)
@settings(deadline=None)  # the first call compiles
def test_polygons_are_valid_and_as_large_as_their_parts(mask: np.ndarray) -> None:
    for one in outline(CroppedMask(0, 0, mask)):
        shape = Shape(one.shell, one.holes)
        assert shape.is_valid
        assert shape.area == redrawn((one,), mask.shape).sum()
        for ring in (one.shell, *one.holes):
            assert len(ring) >= 4
            assert len({tuple(corner) for corner in ring.tolist()}) == len(ring)
            steps = np.diff(np.vstack([ring, ring[:1]]), axis=0)
            assert ((steps == 0).sum(axis=1) == 1).all()  # along pixel edges, corner to corner


def test_an_outline_lies_where_the_object_does() -> None:
    (one,) = outline(CroppedMask(10, 20, np.ones((2, 3), bool)))
    assert one.shell.tolist() == [[23, 10], [23, 12], [20, 12], [20, 10]]
    assert one.holes == ()


@pytest.mark.parametrize("rows", ["###|#.#|###", "#.|.#", "##.|#.#|.##"])
def test_holes_and_corners(rows: str) -> None:
    mask = np.array([[letter == "#" for letter in row] for row in rows.split("|")])
    polygons = outline(CroppedMask(0, 0, mask))
    assert np.array_equal(redrawn(polygons, mask.shape), mask)
    holes = sum(len(one.holes) for one in polygons)
    assert holes == (rows == "###|#.#|###")
