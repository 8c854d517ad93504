"""The range of an image that is read in parts is the range of the whole."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segpipe.segmenters.preprocess import value_range
from segpipe.segmenters.value_ranges import streamed_range
from segpipe.spec import PercentileScaling, RangeScaling

TYPES = ("uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64", "float16",
         "float32", "float64", "bool", ">u2", ">f4")  # fmt: skip


def pixels_of(kind: str, seed: int, size: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    values = rng.normal(0, 10.0 ** rng.integers(-3, 5), (size, 7, 1))
    with np.errstate(all="ignore"):
        return values.astype(np.float64).astype(kind)


@pytest.mark.parametrize("kind", TYPES)
@given(st.integers(0, 2**32 - 1), st.integers(1, 60), st.floats(0, 49), st.floats(51, 100))
def test_percentiles_of_parts_are_those_of_the_whole(
    kind: str, seed: int, size: int, low: float, high: float
) -> None:
    pixels = pixels_of(kind, seed, size)
    scaling = PercentileScaling(low=low, high=high)
    found = streamed_range(pixels.dtype, scaling, lambda: np.array_split(pixels, 4))
    # In float16 numpy rounds between two ranks, one of which may be far larger.
    exact = {"bool": np.uint8, "float16": np.float64}
    whole = pixels.astype(exact.get(kind, pixels.dtype))
    np.testing.assert_allclose(found, value_range(whole, scaling), rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("kind", TYPES)
def test_extremes_of_parts_are_those_of_the_whole(kind: str) -> None:
    pixels = pixels_of(kind, 3, 50)
    parts = [pixels[:20], pixels[20:20], pixels[20:]]
    found = streamed_range(pixels.dtype, RangeScaling(), lambda: parts)
    assert found == value_range(pixels, RangeScaling())


def test_an_image_of_one_value_has_an_empty_range() -> None:
    pixels = np.full((9, 9, 3), -7.5, np.float32)
    assert streamed_range(pixels.dtype, PercentileScaling(), lambda: [pixels]) == (-7.5, -7.5)
