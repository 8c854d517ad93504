"""The declared rule from stored samples to pixels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image, ImageOps

from segpipe.errors import InputError, Reason
from segpipe.geometry import Box
from segpipe.readers import convert

SHAPES = st.tuples(st.integers(1, 6), st.integers(1, 6), st.sampled_from([1, 3]))
KEPT = st.sampled_from(convert.PIXEL_TYPES)


@given(st.data(), KEPT, st.sampled_from("<>"), st.integers(1, 8))
def test_finite_values_are_moved_and_never_altered(data, name, order, orientation):
    dtype = np.dtype(name).newbyteorder(order)
    elements = {"allow_nan": False, "allow_infinity": False} if dtype.kind == "f" else {}
    stored = data.draw(
        hnp.arrays(dtype, data.draw(SHAPES), elements=hnp.from_dtype(dtype, **elements))
    )
    pixels, n_nonfinite = convert.as_pixels(stored, orientation)
    assert n_nonfinite == 0
    assert pixels.dtype == np.dtype(name)
    assert pixels.dtype.isnative
    assert pixels.flags.c_contiguous
    assert sorted(pixels.ravel().tolist()) == sorted(stored.ravel().tolist())
    assert pixels.shape[:2] == convert.upright_shape(*stored.shape[:2], orientation)
    assert pixels.shape[2] == stored.shape[2]


@given(hnp.arrays(np.float32, SHAPES))
def test_nonfinite_values_become_zero_and_are_counted(stored):
    pixels, n_nonfinite = convert.as_pixels(stored)
    assert n_nonfinite == int((~np.isfinite(stored)).sum())
    np.testing.assert_array_equal(pixels, np.where(np.isfinite(stored), stored, 0))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_that_of_other_software(orientation):
    image = Image.fromarray(np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3))
    stored = np.asarray(image)
    image.getexif()[0x0112] = orientation
    expected = np.asarray(ImageOps.exif_transpose(image))
    np.testing.assert_array_equal(convert.upright(stored, orientation), expected)


def test_a_grey_plane_gets_a_channel_axis():
    assert convert.as_pixels(np.zeros((4, 5), np.uint8))[0].shape == (4, 5, 1)


def test_bool_becomes_black_and_white():
    pixels, _ = convert.as_pixels(np.array([[False, True]]))
    assert pixels.dtype == np.uint8
    assert pixels.ravel().tolist() == [0, 255]


@pytest.mark.parametrize("channels", [2, 4, 5])
def test_other_numbers_of_channels_are_refused(channels):
    with pytest.raises(InputError) as caught:
        convert.as_pixels(np.zeros((2, 2, channels), np.uint8))
    assert caught.value.reason is Reason.UNSUPPORTED_CHANNELS


@pytest.mark.parametrize("name", ["complex64", "int64", "uint64", "longdouble"])
def test_other_pixel_types_are_refused(name):
    with pytest.raises(InputError) as caught:
        convert.as_pixels(np.zeros((2, 2), name))
    assert caught.value.reason is Reason.UNSUPPORTED_PIXEL_TYPE


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_few_bits_use_the_whole_range(bits):
    values = np.arange(2**bits, dtype=np.uint8)
    scaled = convert.full_range(values, bits)
    assert (scaled[0], scaled[-1]) == (0, 255)
    assert len(set(np.diff(scaled.astype(int)).tolist())) == 1


@given(hnp.arrays(np.uint16, 7), hnp.arrays(np.int16, 7))
def test_inverting_twice_changes_nothing(unsigned, signed):
    for values in (unsigned, signed):
        once = convert.inverted(values, 16)
        assert once.dtype == values.dtype
        np.testing.assert_array_equal(convert.inverted(once, 16), values)
        assert (np.diff(once.astype(int)) == -np.diff(values.astype(int))).all()


def test_palette_colours_are_looked_up_by_their_high_byte():
    colour_map = np.array([[0, 0xFFFF], [0x1234, 0], [0, 0x80FF]], np.uint16)
    rgb = convert.colours(np.array([[0, 1]], np.uint8), colour_map)
    assert rgb.tolist() == [[[0, 0x12, 0], [255, 0, 0x80]]]


def test_a_palette_index_outside_the_palette_is_corrupt():
    with pytest.raises(InputError) as caught:
        convert.colours(np.array([[2]], np.uint8), np.zeros((3, 2), np.uint16))
    assert caught.value.reason is Reason.CORRUPT


def test_cmyk_ends_of_the_range():
    inks = np.array([[[0, 0, 0, 0], [0, 0, 0, 255], [255, 0, 0, 0]]], np.uint8)
    assert convert.rgb_from_cmyk(inks).tolist() == [[[255] * 3, [0] * 3, [0, 255, 255]]]


@given(st.integers(1, 8), st.data())
def test_a_part_that_is_turned_is_the_part_of_what_is_turned(orientation, data):
    stored = np.arange(7 * 5 * 2).reshape(7, 5, 2)
    whole = convert.upright(stored, orientation)
    (y0, y1), (x0, x1) = (
        sorted(data.draw(st.tuples(*[st.integers(0, size)] * 2))) for size in whole.shape[:2]
    )
    box = Box(y0, x0, y1, x1)
    place = convert.stored_box(box, whole.shape[:2], orientation)
    part = convert.upright(stored[place.slices], orientation)
    np.testing.assert_array_equal(part, whole[box.slices])
