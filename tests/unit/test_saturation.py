"""A part with more objects than a look may give is looked at in quarters, and never in silence."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from segpipe.geometry import Box
from segpipe.masks.paint import paint
from segpipe.records import CroppedMask, DecodedImage, Header, Instances, Segmentation
from segpipe.segmenters.base import Footprint, View
from segpipe.segmenters.saturation import objects_of_part
from segpipe.spec import Limits, RangeScaling, Tiles
from tests.generated import SPEC
from tests.parts import scene, through_store

HALO = 32
VIEW = View(0.0, 255.0)


def decoded(pixels: np.ndarray) -> DecodedImage:
    height, width, channels = pixels.shape
    return DecodedImage(pixels, Header(height, width, channels, pixels.dtype.name, "png", ""), "")


class Limited:
    """Bright connected pixels are objects; the `most` largest are told, as a detector does."""

    scaling = RangeScaling()

    def __init__(self, most: int) -> None:
        tiles = Tiles(side=256, halo=HALO, max_image_pixels=1 << 31)
        self.spec = SPEC.model_copy(update={"limits": Limits(max_pixels=1), "tiles": tiles})
        self.most = most
        self.looks = 0

    def footprint(self, header: Header) -> Footprint:
        return Footprint(*[header.height * header.width] * 4)

    def prepare(self, image: DecodedImage) -> np.ndarray:
        return self.prepare_part(image, VIEW)

    def prepare_part(self, part: DecodedImage, view: View) -> np.ndarray:
        assert view == VIEW
        return part.pixels[..., 0] > 0

    def part_footprint(self, header: Header, magnification: float) -> Footprint:
        return self.footprint(header)

    def magnification(self, areas: np.ndarray) -> float:
        return 1.0

    def forward(self, batch: Sequence[np.ndarray]) -> list[np.ndarray]:
        self.looks += len(batch)
        return list(batch)

    def finish(self, raw: np.ndarray, image: DecodedImage) -> Segmentation:
        labels, count = ndimage.label(raw)
        areas = np.bincount(labels.ravel(), minlength=count + 1)[1:]
        best = np.argsort(-areas, kind="stable")[: self.most]
        boxes = ndimage.find_objects(labels)
        masks = [
            CroppedMask(boxes[i][0].start, boxes[i][1].start, labels[boxes[i]] == i + 1)
            for i in best
        ]
        scores = (areas[best] / (areas.max(initial=1) + 1)).astype(np.float32)
        full = len(masks) == self.most
        found = Instances(tuple(masks), scores, np.ones(len(masks), np.int32), saturated=full)
        return paint(found, image.header.shape)


def looked(segmenter: Limited, image: DecodedImage, seen: Box, shape: tuple[int, int]) -> Instances:
    (raw,) = segmenter.forward([segmenter.prepare_part(image, VIEW)])
    return objects_of_part(segmenter, raw, image, seen, shape, VIEW, HALO)


def as_set(found: Instances) -> set[tuple]:
    return {(one.y0, one.x0, one.mask.shape, one.mask.tobytes()) for one in found.masks}


@given(
    st.integers(0, 2**32 - 1), st.tuples(st.integers(1, 400), st.integers(1, 400)),
    st.integers(1, HALO - 1), st.integers(1, 60), st.tuples(st.integers(0, 9), st.integers(0, 9)),
)  # fmt: skip
@settings(max_examples=80)
def test_every_object_is_found_or_it_is_told_that_some_are_missing(
    seed: int, shape: tuple[int, int], largest: int, most: int, corner: tuple[int, int]
) -> None:
    """The part lies anywhere in a larger image, whose coordinates the answer is in."""
    image = decoded(scene(seed, shape, largest, 120))
    y, x = corner
    seen = Box(y, x, y + shape[0], x + shape[1])
    whole = seen.y1 + 5, seen.x1 + 5
    limited = Limited(most)
    found = looked(limited, image, seen, whole)
    everything = looked(Limited(10_000), image, seen, whole)
    assert not everything.saturated
    assert len(as_set(found)) == len(found.masks)
    if found.saturated:
        assert max(shape) <= 3 * HALO or limited.looks > 1
        assert len(found.masks) >= min(most, len(everything.masks))
    else:
        assert as_set(found) == as_set(everything)


def test_many_small_objects_are_all_found_with_a_low_limit() -> None:
    pixels = np.zeros((400, 400, 1), np.uint8)
    pixels[::20, ::20] = 255
    segmenter = Limited(most=40)
    found = looked(segmenter, decoded(pixels), Box(0, 0, 400, 400), (400, 400))
    assert len(found.masks) == 20 * 20
    assert not found.saturated
    assert np.all(np.diff(found.scores) <= 0)


def test_a_part_with_room_left_is_looked_at_once() -> None:
    segmenter = Limited(most=3)
    pixels = np.zeros((200, 200, 1), np.uint8)
    pixels[20:30, 20:30] = pixels[150:160, 150:170] = 255
    found = looked(segmenter, decoded(pixels), Box(0, 0, 200, 200), (200, 200))
    assert (len(found.masks), found.saturated, segmenter.looks) == (2, False, 1)


@pytest.mark.parametrize("side", [3 * HALO, 2 * HALO, 1])
def test_a_part_of_three_halos_is_not_cut_and_says_so(side: int) -> None:
    segmenter = Limited(most=1)
    image = decoded(np.full((side, side, 1), 255, np.uint8))
    found = looked(segmenter, image, Box(0, 0, side, side), (side, side))
    assert (len(found.masks), found.saturated, segmenter.looks) == (1, True, 1)


def test_pieces_that_do_not_fit_leave_the_first_look() -> None:
    """An object that is larger than the halo, and that only some quarters see."""

    class Blind(Limited):
        def finish(self, raw: np.ndarray, image: DecodedImage) -> Segmentation:
            whole = raw.shape[1] == 300 or raw[0, 0]
            return super().finish(raw if whole else np.zeros_like(raw), image)

    pixels = np.zeros((300, 300, 1), np.uint8)
    pixels[0, 0] = pixels[40:60, 30:250] = 255
    found = looked(Blind(most=2), decoded(pixels), Box(0, 0, 300, 300), (300, 300))
    assert found.saturated
    assert [one.mask.shape for one in found.masks] == [(20, 220), (1, 1)]


@given(st.integers(0, 2**32 - 1), st.integers(5, 30))
@settings(max_examples=10)
def test_full_tiles_are_looked_at_in_quarters(seed: int, most: int) -> None:
    image = decoded(scene(seed, (400, 380), HALO - 1, 120))
    found = through_store(Limited(most), image)
    _, count = ndimage.label(image.pixels[..., 0])
    assert found.saturated or found.n_objects == count
