"""What the measured columns of the objects table hold."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image
from scipy.spatial import ConvexHull
from skimage.measure import label as connected
from skimage.measure import regionprops, regionprops_table

from segpipe.errors import InvariantError
from segpipe.measure.physical import IN_MICROMETRES
from segpipe.measure.properties import measure_objects
from segpipe.records import CroppedMask, Segmentation
from segpipe.schema import OBJECTS

INTENSITIES = ("mean_intensity", "min_intensity", "max_intensity", "std_intensity")

shapes_2d = hnp.array_shapes(min_dims=2, max_dims=2, max_side=14)
label_images = shapes_2d.flatmap(
    lambda shape: hnp.arrays(np.uint32, shape, elements=st.integers(0, 4), fill=st.just(0))
)
masks = shapes_2d.flatmap(lambda shape: hnp.arrays(np.bool_, shape)).filter(lambda m: bool(m.any()))


def segmentation(labels: npt.NDArray[np.integer], own: dict[int, CroppedMask] | None = None):
    n = max(int(labels.max(initial=0)), *(own or {0: None}))
    return Segmentation(
        labels.astype(np.uint32), np.ones(n, np.float32), np.ones(n, np.int32), own or {}
    )


def consecutive(labels: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint32]:
    return np.searchsorted(np.unique(np.append(labels, 0)), labels).astype(np.uint32)


def measure_mask(mask: npt.NDArray[np.bool_]) -> dict[str, npt.NDArray]:
    return measure_objects(segmentation(mask), np.zeros((*mask.shape, 1), np.uint8))


def test_columns_are_those_of_the_schema() -> None:
    names = [column.name for column in OBJECTS]
    expected = names[names.index("bbox_y0") : names.index("touches_border") + 1]
    measured = measure_mask(np.ones((2, 2), bool))
    assert sorted((*measured, *IN_MICROMETRES)) == sorted(expected)


@given(label_images, st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=150)
def test_agrees_with_regionprops(labels: npt.NDArray[np.uint32], seed: int) -> None:
    labels = consecutive(labels)
    pixels = np.random.default_rng(seed).integers(0, 60000, (*labels.shape, 2), dtype=np.uint16)
    measured = measure_objects(segmentation(labels), pixels)
    reference = regionprops(labels.astype(int), pixels)
    assert len(measured["area"]) == len(reference)
    for i, region in enumerate(reference):
        box = tuple(int(measured[f"bbox_{end}"][i]) for end in ("y0", "x0", "y1", "x1"))
        assert box == region.bbox
        assert measured["area"][i] == measured["area_visible"][i] == region.area
        centroid = measured["centroid_y"][i], measured["centroid_x"][i]
        assert centroid == pytest.approx(region.centroid, rel=1e-12, abs=1e-12)
        assert measured["perimeter"][i] == pytest.approx(region.perimeter, rel=1e-6)
        # Near 0 and 1 eccentricity is the square root of a rounding error.
        assert measured["eccentricity"][i] ** 2 == pytest.approx(region.eccentricity**2, abs=1e-6)
        tensor = region.inertia_tensor
        if abs(tensor[0, 0] - tensor[1, 1]) > 1e-9 or abs(tensor[0, 1]) > 1e-9:
            # -pi/2 and pi/2 are one direction.
            turn = np.exp(2j * float(measured["orientation"][i]))
            assert turn == pytest.approx(np.exp(2j * region.orientation), abs=1e-5)
        np.testing.assert_allclose(measured["mean_intensity"][i], region.intensity_mean, rtol=1e-6)
        np.testing.assert_array_equal(measured["min_intensity"][i], region.intensity_min)
        np.testing.assert_array_equal(measured["max_intensity"][i], region.intensity_max)
        np.testing.assert_allclose(
            measured["std_intensity"][i], region.intensity_std, rtol=1e-6, atol=1e-6
        )


@given(masks)
@settings(deadline=None, max_examples=150)
def test_solidity_is_area_over_hull_of_pixel_squares(mask: npt.NDArray[np.bool_]) -> None:
    corners = np.concatenate(
        [np.argwhere(mask) + np.array([dy, dx]) for dy in (0, 1) for dx in (0, 1)]
    )
    solidity = measure_mask(mask)["solidity"][0]
    assert 0 < solidity <= 1
    assert solidity == pytest.approx(mask.sum() / ConvexHull(corners).volume, rel=1e-6)


@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 3))
@settings(deadline=None)
def test_rectangle(height: int, width: int, margin: int) -> None:
    labels = np.pad(np.ones((height, width), np.uint32), margin)
    measured = measure_mask(labels > 0)
    assert measured["solidity"][0] == 1
    assert bool(measured["touches_border"][0]) == (margin == 0)
    assert measured["centroid_y"][0] == margin + (height - 1) / 2
    if height != width:
        expected = 0 if height > width else np.pi / 2
        assert abs(measured["orientation"][0]) == pytest.approx(expected)


@given(masks, masks)
@settings(deadline=None)
@example(hidden=np.array([[0, 0, 0, 1, 1], [0, 0, 0, 1, 0]], bool), shown=np.ones((1, 1), bool))
def test_own_mask_is_measured_whole_where_another_object_hides_it(
    hidden: npt.NDArray[np.bool_], shown: npt.NDArray[np.bool_]
) -> None:
    shape = np.maximum(hidden.shape, shown.shape) + 3
    labels = np.zeros(shape, np.uint32)
    frame = np.zeros(shape, bool)
    frame[2 : 2 + hidden.shape[0], 1 : 1 + hidden.shape[1]] = hidden
    labels[frame] = 2
    labels[: shown.shape[0], : shown.shape[1]][shown] = 1
    pixels = np.arange(labels.size, dtype=np.float32).reshape(*shape, 1)
    measured = measure_objects(segmentation(labels, {2: CroppedMask(2, 1, hidden)}), pixels)
    alone = measure_objects(segmentation(frame), pixels)
    for name, values in alone.items():
        if name != "area_visible":
            np.testing.assert_array_equal(measured[name][1], values[0], err_msg=name)
    assert measured["area_visible"].tolist() == [(labels == 1).sum(), (labels == 2).sum()]


@given(label_images, st.sets(st.integers(1, 4)))
@settings(deadline=None)
@example(np.array([[1, 2, 2, 3, 3, 3]], np.uint32), {1, 2})
def test_which_objects_have_a_mask_of_their_own_changes_nothing(
    labels: npt.NDArray[np.uint32], chosen: set[int]
) -> None:
    labels = consecutive(labels)
    own = {i: CroppedMask(0, 0, labels == i) for i in chosen if (labels == i).any()}
    pixels = np.arange(labels.size, dtype=np.uint16).reshape(*labels.shape, 1)
    expected = measure_objects(segmentation(labels), pixels)
    measured = measure_objects(segmentation(labels, own), pixels)
    for name, column in expected.items():
        np.testing.assert_array_equal(measured[name], column, err_msg=name)


def test_fully_hidden_object_has_no_visible_area() -> None:
    labels = np.ones((3, 3), np.uint32)
    own = {1: CroppedMask(0, 0, np.ones((3, 3), bool)), 2: CroppedMask(1, 1, np.ones((1, 1), bool))}
    measured = measure_objects(segmentation(labels, own), np.zeros((3, 3, 1), np.uint8))
    assert measured["area"].tolist() == [9, 1]
    assert measured["area_visible"].tolist() == [9, 0]
    assert measured["bbox_y0"].tolist() == [0, 1]


PIXEL_TYPES = ["?", "i1", "u1", "i2", ">u2", "u4", ">i4", "f2", "f4", ">f4", "f8"]


@pytest.mark.parametrize("dtype", PIXEL_TYPES)
@pytest.mark.parametrize("value", [0, 1])
def test_constant_image_of_every_pixel_type(dtype: str, value: int) -> None:
    labels = np.array([[1, 0], [2, 2]], np.uint32)
    pixels = np.full((2, 2, 3), value, dtype)
    measured = measure_objects(segmentation(labels), pixels)
    for name in INTENSITIES:
        expected = 0 if name == "std_intensity" else value
        assert measured[name] == [[expected] * 3] * 2, name


def test_extremes_of_integers_do_not_overflow() -> None:
    pixels = np.array([[0, 2**32 - 1]], np.uint32)[..., None]
    measured = measure_objects(segmentation(np.ones((1, 2))), pixels)
    assert measured["mean_intensity"][0][0] == np.float32(2**31)
    assert measured["std_intensity"][0][0] == np.float32(2**31)


def test_std_of_small_differences_on_a_large_offset() -> None:
    pixels = 1e9 + np.array([[0.0, 1.0, 0.0, 1.0]])[..., None]
    assert measure_objects(segmentation(np.ones((1, 4))), pixels)["std_intensity"][0][0] == 0.5


@pytest.mark.parametrize("huge", [1e39, 1e300, -1.7e308])
def test_what_float32_cannot_hold_is_null_and_nothing_else_is(huge: float) -> None:
    labels = np.array([[1, 1, 2, 2]], np.uint32)
    pixels = np.array([[3.0, huge, 5.0, 7.0]])[..., None]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        measured = measure_objects(segmentation(labels), pixels)
    nulls = {name: measured[name][0][0] is None for name in INTENSITIES}
    extreme = "max_intensity" if huge > 0 else "min_intensity"
    assert {name for name, null in nulls.items() if null} == {
        "mean_intensity",
        extreme,
        "std_intensity",
    }
    assert [measured[name][1] for name in INTENSITIES] == [[6.0], [5.0], [7.0], [1.0]]


@given(
    label_images.flatmap(
        lambda labels: st.tuples(
            st.just(labels),
            hnp.arrays(
                np.float64,
                (*labels.shape, 1),
                elements=st.floats(allow_nan=False, allow_infinity=False),
            ),
        )
    )
)
@settings(deadline=None)
def test_no_array_holds_nan_or_infinity(case: tuple[npt.NDArray, npt.NDArray]) -> None:
    labels, pixels = consecutive(case[0]), case[1]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        measured = measure_objects(segmentation(labels), pixels)
    for name, values in measured.items():
        numbers = (
            [v for row in values for v in row if v is not None] if name in INTENSITIES else values
        )
        assert np.isfinite(numbers).all(), name
    for name in INTENSITIES:
        for row, region in zip(measured[name], np.unique(labels[labels > 0]), strict=True):
            inside = pixels[labels == region, 0]
            if np.abs(inside).max() < 1e30:
                assert row[0] is not None


def test_agrees_with_regionprops_on_real_nuclei(shared_data: Path) -> None:
    names = sorted(path.name for path in (shared_data / "nuclei" / "labels").iterdir())[::111]
    assert len(names) > 3
    for name in names:
        labels = consecutive(np.array(Image.open(shared_data / "nuclei" / "labels" / name)))
        pixels = np.atleast_3d(np.array(Image.open(shared_data / "nuclei" / "images" / name)))
        measured = measure_objects(segmentation(labels), pixels)
        shapes = ("area", "perimeter", "eccentricity")
        reference = regionprops_table(labels.astype(int), properties=shapes)
        for column in shapes:
            np.testing.assert_allclose(measured[column], reference[column], rtol=1e-5)
        means = [region.intensity_mean for region in regionprops(labels.astype(int), pixels)]
        np.testing.assert_allclose(measured["mean_intensity"], means, rtol=1e-6)


def test_no_objects() -> None:
    measured = measure_objects(segmentation(np.zeros((4, 5))), np.zeros((4, 5, 3), np.uint8))
    assert all(len(values) == 0 for values in measured.values())


def test_read_only_and_strided_input() -> None:
    labels = connected(np.eye(6, dtype=bool)[:, ::-1], connectivity=1).astype(np.uint32).T
    pixels = np.arange(72, dtype=np.uint8).reshape(6, 12, 1)[:, ::2]
    pixels.flags.writeable = False
    measured = measure_objects(segmentation(labels), pixels)
    means = [pixels[labels == i + 1].mean() for i in range(6)]
    assert [row[0] for row in measured["mean_intensity"]] == means


@pytest.mark.parametrize(
    ("labels", "n", "own", "message"),
    [
        ([[1, 3]], 2, {}, "holds label 3"),
        ([[1, 1]], 2, {}, "label 2 has neither"),
        ([[1, 1]], 1, {2: CroppedMask(0, 0, np.ones((1, 1), bool))}, "a mask for label 2"),
        ([[1, 1]], 1, {1: CroppedMask(0, 1, np.ones((1, 2), bool))}, "leaves the image"),
        ([[1, 1]], 1, {1: CroppedMask(0, -1, np.ones((1, 2), bool))}, "leaves the image"),
        ([[1, 1]], 1, {1: CroppedMask(0, 0, np.zeros((1, 2), bool))}, "has no pixel"),
    ],
)
def test_contradictions_are_refused(labels, n, own, message) -> None:
    contradictory = Segmentation(
        np.array(labels, np.uint32), np.ones(n, np.float32), np.ones(n, np.int32), own
    )
    with pytest.raises(InvariantError, match=message):
        measure_objects(contradictory, np.zeros((1, 2, 1), np.uint8))


def test_pixels_of_another_shape_are_refused() -> None:
    with pytest.raises(InvariantError, match="do not fit"):
        measure_objects(segmentation(np.ones((2, 3))), np.zeros((3, 2, 1), np.uint8))
