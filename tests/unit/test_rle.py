"""Run-length codes are those of pycocotools, both ways, and a broken one is refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pycocotools import mask as coco

from segpipe.errors import SpecError
from segpipe.geometry import Box
from segpipe.masks import rle
from segpipe.records import CroppedMask


@st.composite
def crops(draw: st.DrawFn) -> tuple[CroppedMask, tuple[int, int]]:
    height, width = draw(st.integers(1, 40)), draw(st.integers(1, 40))
    y0, x0 = draw(st.integers(0, height - 1)), draw(st.integers(0, width - 1))
    h, w = draw(st.integers(1, height - y0)), draw(st.integers(1, width - x0))
    fill = draw(st.sampled_from([None, False, True]))
    pixels = draw(hnp.arrays(np.bool_, (h, w))) if fill is None else np.full((h, w), fill)
    return CroppedMask(y0, x0, pixels), (height, width)


def dense(mask: CroppedMask, shape: tuple[int, int]) -> np.ndarray:
    full = np.zeros(shape, np.bool_)
    h, w = mask.mask.shape
    full[mask.y0 : mask.y0 + h, mask.x0 : mask.x0 + w] = mask.mask
    return full


@settings(deadline=None)
@given(crops())
def test_code_is_that_of_pycocotools_and_comes_back(case) -> None:
    mask, shape = case
    full = dense(mask, shape)
    code = rle.encode(mask, shape)
    assert code.encode() == coco.encode(np.asfortranarray(full, np.uint8))["counts"]
    assert np.array_equal(rle.decode(code, shape), full)
    assert rle.area(code) == full.sum()


@settings(deadline=None)
@given(crops(), crops())
def test_a_part_is_read_without_the_rest(case, other) -> None:
    (mask, shape), (place, _) = case, other
    y0, x0 = min(place.y0, shape[0] - 1), min(place.x0, shape[1] - 1)
    part = Box(y0, x0, y0 + place.mask.shape[0], x0 + place.mask.shape[1]).clip(shape)
    found = rle.decode_part(rle.encode(mask, shape), shape, part)
    assert np.array_equal(found, dense(mask, shape)[part.slices])


def test_long_runs_of_a_large_image() -> None:
    shape = (9_000, 7_000)
    mask = CroppedMask(8_990, 6_900, np.eye(10, 100, dtype=np.bool_))
    code = rle.encode(mask, shape)
    pixels = coco.decode({"size": list(shape), "counts": code.encode()})
    assert np.argwhere(pixels).tolist() == [[8_990 + i, 6_900 + i] for i in range(10)]
    assert rle.area(code) == 10


def test_crop_of_a_huge_image_needs_no_image() -> None:
    code = rle.encode(CroppedMask(70_000, 90_000, np.ones((2, 3), np.bool_)), (100_000, 100_000))
    assert rle.area(code) == 6
    around = Box(69_999, 89_999, 70_003, 90_004)
    assert rle.decode_part(code, (100_000, 100_000), around).sum() == 6


def test_empty_runs_of_other_writers_are_read() -> None:
    """`frPyObjects` writes runs of 0 pixels; they change nothing."""
    polygon = [[1.0, 1.0, 1.0, 5.0, 6.0, 5.0, 6.0, 1.0]]
    (theirs,) = coco.frPyObjects(polygon, 8, 9)
    assert np.array_equal(rle.decode(theirs["counts"].decode(), (8, 9)), coco.decode(theirs))


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        ("", "empty"),
        ("é", "ASCII"),
        ("1 2", "character outside"),
        ("1p", "character outside"),
        ("5oo", "cut off"),
        ("oooooooo0", "more than 7"),
        ("L", "negative"),
        ("111L", "negative"),
    ],
)
def test_malformed_codes_are_refused(code: str, problem: str) -> None:
    with pytest.raises(SpecError, match=problem):
        rle.decode(code, (2, 2))


def test_code_of_another_shape_is_refused() -> None:
    code = rle.encode(CroppedMask(0, 0, np.ones((2, 2), np.bool_)), (4, 5))
    with pytest.raises(SpecError, match="20 pixels, but an image of 4x6 has 24"):
        rle.decode(code, (4, 6))


@settings(deadline=None)
@given(st.text(alphabet=st.characters(min_codepoint=48, max_codepoint=111), max_size=12))
def test_any_text_is_a_mask_or_an_error(code: str) -> None:
    try:
        mask = rle.decode(code, (5, 7))
    except SpecError:
        return
    assert mask.shape == (5, 7)
    assert mask.sum() == rle.area(code)


@pytest.mark.parametrize("at", [(-1, 0), (0, -1), (4, 0), (0, 4)])
def test_crop_outside_the_image_is_refused(at: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="reaches out of 5x5"):
        rle.encode(CroppedMask(*at, np.ones((2, 2), np.bool_)), (5, 5))
