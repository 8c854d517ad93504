"""An image is looked at in the size that its objects ask for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from segpipe.records import DecodedImage, Header
from segpipe.segmenters.build import build
from segpipe.segmenters.catalog import resolve
from segpipe.segmenters.magnification import choose_magnification, median_diameter, resample
from segpipe.spec import RunSpec


@given(st.floats(0.5, 500), st.floats(1, 200))
def test_it_comes_as_near_as_it_can(diameter: float, wanted: float) -> None:
    chosen = choose_magnification(diameter, wanted)
    assert chosen in (0.5, 1.0, 2.0)
    distances = {m: abs(np.log2(diameter * m / wanted)) for m in (0.5, 1.0, 2.0)}
    assert distances[chosen] == pytest.approx(min(distances.values()))


def test_nothing_to_go_by_changes_nothing() -> None:
    assert choose_magnification(0.0, 30) == choose_magnification(30, 0.0) == 1
    assert median_diameter(np.zeros((5, 5), np.uint32)) == 0


def test_the_diameter_is_that_of_a_disc() -> None:
    y, x = np.mgrid[:60, :60]
    labels = (np.hypot(y - 30, x - 30) < 10).astype(np.uint32)
    labels[:3, :3] = 7  # labels need not be consecutive
    labels[50:, 50:] = 2
    assert median_diameter(labels) == pytest.approx(2 * np.sqrt(100 / np.pi), rel=0.01)


@pytest.mark.parametrize("size", [(32, 32), (64, 64), (16, 16), (31, 45)])
def test_resampling_keeps_the_mean(size: tuple[int, int]) -> None:
    planes = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    resampled = resample(planes, size)
    assert resampled.shape == (1, 3, *size)
    assert resampled.mean().item() == pytest.approx(planes.mean().item(), abs=0.02)


def field(diameter: int, side: int) -> DecodedImage:
    """Bright discs on a grid, a little uneven."""
    y, x = np.mgrid[:side, :side]
    step = 3 * diameter
    inside = np.hypot(y % step - step / 2, x % step - step / 2) < diameter / 2
    noise = np.random.default_rng(0).normal(0, 4, (side, side))
    pixels = (30 + 150 * inside + noise).clip(0, 255).astype(np.uint8)[..., None]
    return DecodedImage(pixels, Header(side, side, 1, "uint8", "png", "test"), "")


@pytest.mark.parametrize(("diameter", "side"), [(7, 90), (28, 170)])
def test_objects_of_any_size_are_found(diameter: int, side: int) -> None:
    found = {}
    for wanted in (0, 28):
        options = {"object_diameter": wanted}
        run = RunSpec(source="", store="", model="unet-nuclei", device="cpu", options=options)
        model = resolve(run)
        segmenter = build(model.spec, model.weights_path)
        image = field(diameter, side)
        (raw,) = segmenter.forward([segmenter.prepare(image)])
        found[wanted] = segmenter.finish(raw, image)
        assert found[wanted].label_image.shape == (side, side)
    whole = (side // (3 * diameter)) ** 2
    assert abs(found[28].n_objects - whole) <= abs(found[0].n_objects - whole) + 1
    changed = not np.array_equal(found[0].label_image, found[28].label_image)
    assert changed == (diameter != 28)


def test_an_image_that_would_become_too_large_is_looked_at_as_it_is(tmp_path: Path) -> None:
    answers = []
    for options in ({"object_diameter": 0}, {"object_diameter": 28, "max_magnified_pixels": 100}):
        run = RunSpec(source="", store="", model="unet-nuclei", device="cpu", options=options)
        model = resolve(run)
        segmenter = build(model.spec, model.weights_path)
        image = field(7, 90)
        (raw,) = segmenter.forward([segmenter.prepare(image)])
        answers.append(segmenter.finish(raw, image).label_image)
    assert np.array_equal(*answers)
