"""What the figures show."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from skimage import data
from skimage.measure import label as connected

from segpipe.errors import InvariantError
from segpipe.measure.properties import measure_objects
from segpipe.records import Segmentation
from segpipe.report.display import PALETTE, display, neighbour_colours
from segpipe.report.overlay import MAX_NAMED, MIN_SIDE, outlined, overlay

Row = dict[str, Any]


def rows_of(labels: npt.NDArray, name: str = "cell", score: float | None = 0.9) -> list[Row]:
    n = int(labels.max(initial=0))
    segmentation = Segmentation(
        labels.astype(np.uint32), np.ones(n, np.float32), np.ones(n, np.int32)
    )
    columns = measure_objects(segmentation, np.zeros((*labels.shape, 1), np.uint8))
    return [
        {name: values[i] for name, values in columns.items()}
        | {"label": i + 1, "class_id": 1, "class_name": name, "score": score}
        for i in range(n)
    ]


def two_squares() -> npt.NDArray[np.uint16]:
    labels = np.zeros((800, 900), np.uint16)
    labels[100:300, 100:300] = 1
    labels[400:700, 400:700] = 2
    return labels


def grey(shape: tuple[int, int], value: int = 128) -> npt.NDArray[np.uint8]:
    return np.full((*shape, 3), value, np.uint8)


def test_mask_is_translucent_with_a_solid_outline_and_the_rest_is_untouched() -> None:
    labels = two_squares()
    figure = overlay(grey(labels.shape), labels, rows_of(labels))
    first, second = figure[200, 200].astype(int), figure[550, 550].astype(int)
    assert not np.array_equal(first, second)
    outline = figure[400, 550].tolist()
    assert outline in PALETTE.tolist()
    np.testing.assert_allclose(second, 0.55 * 128 + 0.45 * np.array(outline), atol=1)
    assert figure[750, 50].tolist() == [128, 128, 128]
    assert figure[20, 800].tolist() == [128, 128, 128]


def test_each_object_has_a_name_above_its_box_in_its_colour() -> None:
    labels = two_squares()
    named = overlay(grey(labels.shape), labels, rows_of(labels))
    colour = named[400, 550]
    above = named[382:399, 400:460].reshape(-1, 3)
    assert (above == colour).all(axis=1).mean() > 0.4
    assert (above.max(axis=1) < 60).any() or (above.min(axis=1) > 200).any()


def test_a_score_is_drawn_only_where_there_is_one() -> None:
    labels = two_squares()
    with_score = overlay(grey(labels.shape), labels, rows_of(labels))
    without = overlay(grey(labels.shape), labels, rows_of(labels, score=None))
    assert not np.array_equal(with_score[382:399, 400:480], without[382:399, 400:480])


def test_dense_field_has_outlines_and_a_caption_but_no_boxes() -> None:
    side = int(np.ceil((MAX_NAMED + 1) ** 0.5))
    block = np.pad(np.eye(60, dtype=bool)[::-1] | np.eye(60, dtype=bool), 20)
    labels = connected(np.tile(block, (side, side)), connectivity=2).astype(np.uint32)
    assert labels.max() > MAX_NAMED
    figure = overlay(grey(labels.shape), labels, rows_of(labels))
    background = figure[: labels.shape[0]][labels == 0]
    assert (background == 128).all()
    assert figure.shape[0] > labels.shape[0]


@pytest.mark.parametrize("shape", [(1, 1), (3, 2000), (40, 60), (256, 256), (1000, 1200)])
def test_small_images_are_enlarged_by_a_whole_factor(shape: tuple[int, int]) -> None:
    figure = overlay(grey(shape), np.zeros(shape, np.uint8), [])
    factor = figure.shape[1] // shape[1]
    assert figure.shape[1] == factor * shape[1]
    picture = figure[: factor * shape[0]]
    assert (picture == 128).all()
    assert (
        min(picture.shape[:2]) >= MIN_SIDE or max(picture.shape[:2]) * (factor + 1) / factor > 4096
    )
    assert figure.shape[0] > picture.shape[0]


@pytest.mark.parametrize("shape", [(1, 60000), (30000, 1)])
def test_thread_like_images_do_not_explode(shape: tuple[int, int]) -> None:
    figure = overlay(grey(shape), np.ones(shape, np.uint8), rows_of(np.ones(shape, np.uint8)))
    assert figure.size < 3 * 60000 * 60


@pytest.mark.parametrize("shape", [(1, 1), (1, 3000), (40, 64), (700, 1001), (3000, 1)])
def test_a_small_picture_fits_and_shows_where_objects_are(shape: tuple[int, int]) -> None:
    labels = np.zeros(shape, np.uint16)
    labels[: shape[0] // 2 + 1, : shape[1] // 2 + 1] = 1
    picture = outlined(np.full((*shape, 3), 255, np.uint8), labels, [], None, 128)
    assert max(picture.shape[:2]) <= 128
    assert outlined(np.full((*shape, 3), 9, np.uint8), labels, [], labels, 128)[0, 0].max() > 9


def test_semantic_result_has_class_colours_and_a_legend() -> None:
    semantic = np.zeros((800, 800), np.uint8)
    semantic[:, 400:] = 2
    labels = np.zeros(semantic.shape, np.uint8)
    figure = overlay(grey(semantic.shape), labels, [], semantic, ("background", "a", "fluid"))
    assert (figure[:800, :390] == 128).all()
    blend = np.rint(0.55 * 128 + 0.45 * PALETTE[1].astype(float))
    np.testing.assert_array_equal(figure[100, 700], blend)
    legend = figure[800:].reshape(-1, 3)
    assert (legend == PALETTE[1]).all(axis=1).any()
    assert not (legend == PALETTE[0]).all(axis=1).any()


def test_class_without_a_name_and_hostile_names_are_drawn() -> None:
    labels = two_squares()
    rows = rows_of(labels, name="\n\x00<img>" + "w" * 10_000)
    assert overlay(grey(labels.shape), labels, rows).shape[1] == labels.shape[1]
    semantic = np.full(labels.shape, 200, np.uint8)
    assert overlay(grey(labels.shape), labels, [], semantic).shape[1] == labels.shape[1]


def test_label_without_a_row_is_drawn_white() -> None:
    labels = two_squares()
    figure = overlay(grey(labels.shape), labels, rows_of(labels)[:1])
    assert figure[400, 550].tolist() == [255, 255, 255]


def test_masks_of_another_shape_are_refused() -> None:
    with pytest.raises(InvariantError, match="do not fit"):
        overlay(grey((4, 4)), np.zeros((4, 5), np.uint8), [])


@given(
    hnp.arrays(
        st.sampled_from([np.uint8, np.uint16, np.int16, np.float32, np.float64]),
        st.tuples(st.integers(1, 6), st.integers(1, 6), st.sampled_from([1, 3])),
    ).filter(lambda pixels: bool(np.isfinite(pixels).all()))
)
@settings(deadline=None)
def test_any_pixels_are_shown_and_order_is_kept(pixels: npt.NDArray) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        shown = display(pixels)
    assert shown.shape == (*pixels.shape[:2], 3)
    assert shown.dtype == np.uint8
    order = np.argsort(pixels[..., 0], axis=None)
    assert (np.diff(shown[..., 0].ravel()[order].astype(int)) >= 0).all()


def test_16_bit_is_shown_by_percentiles_not_clipped() -> None:
    ramp = np.linspace(1000, 5000, 10_000).astype(np.uint16).reshape(100, 100, 1)
    shown = display(ramp)
    assert shown.min() == 0
    assert shown.max() == 255
    assert abs(float(shown.mean()) - 127) < 2


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_the_same_values_are_shown_alike_whatever_their_type(dtype: type) -> None:
    pixels = np.random.default_rng(0).integers(0, 250, (40, 50, 1)).astype(dtype)
    np.testing.assert_array_equal(display(pixels), display(pixels.astype(np.float64)))


def test_colour_photograph_is_shown_as_it_is() -> None:
    photograph = data.astronaut()
    np.testing.assert_array_equal(display(photograph), photograph)


@given(st.integers(0, 2**32 - 1), st.integers(1, 200))
@settings(deadline=None, max_examples=25)
def test_nearest_neighbours_have_different_colours(seed: int, n: int) -> None:
    centres = np.random.default_rng(seed).uniform(0, 100, (n, 2))
    colours = neighbour_colours(centres)
    for i in range(n):
        distance = np.hypot(*(centres - centres[i]).T)
        for j in np.argsort(distance)[1:3]:
            # The later of the two saw the earlier among its neighbours, if it is one of them.
            rank = int((np.hypot(*(centres - centres[max(i, j)]).T) < distance[j]).sum())
            if rank < len(PALETTE) - 1:
                assert colours[i].tolist() != colours[j].tolist()
