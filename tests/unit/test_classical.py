"""The baseline without weights: what it finds in generated and in real images."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage
from skimage import data
from skimage.segmentation import relabel_sequential

from segpipe.errors import SpecError
from segpipe.measure.evaluation import average_precision, match, true_positives
from segpipe.records import DecodedImage, Header, Segmentation
from segpipe.segmenters.classical import ClassicalSegmenter
from segpipe.spec import ClassicalOptions, ModelSpec, SegmentSpec, UNetOptions

MODEL = ModelSpec(name="classical", kind="classical")


def segment(pixels: np.ndarray, **options) -> Segmentation:
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    segmenter = ClassicalSegmenter(SegmentSpec(model=MODEL, options=ClassicalOptions(**options)))
    header = Header(*pixels.shape, str(pixels.dtype), "png", "test")
    image = DecodedImage(pixels, header, "0" * 64)
    (raw,) = segmenter.forward([segmenter.prepare(image)])
    return segmenter.finish(raw, image)


def discs(shape: tuple[int, int], *centres: tuple[int, int], radius: int = 10) -> np.ndarray:
    y, x = np.indices(shape)
    return np.any([np.hypot(y - cy, x - cx) <= radius for cy, cx in centres], axis=0)


APART = discs((80, 120), (20, 20), (20, 60), (55, 90))


@pytest.mark.parametrize("threshold", ["otsu", "li", "triangle"])
@pytest.mark.parametrize("inverted", [False, True])
def test_objects_of_either_polarity_are_found(threshold: str, inverted: bool) -> None:
    pixels = np.where(inverted != APART, 200, 30).astype(np.uint8)
    found = segment(pixels, threshold=threshold, smoothing=0)
    assert found.n_objects == 3
    assert np.array_equal(found.label_image > 0, APART)
    assert np.isnan(found.scores).all()


def test_chosen_polarity_is_kept() -> None:
    pixels = np.where(APART, 30, 200).astype(np.uint8)
    found = segment(pixels, polarity="bright", smoothing=0)
    assert np.array_equal(found.label_image > 0, ndimage.binary_fill_holes(~APART))


def test_touching_objects_are_split() -> None:
    pair = discs((60, 80), (30, 28), (30, 46))
    assert ndimage.label(pair)[1] == 1
    found = segment(pair.astype(np.uint8) * 255)
    assert found.n_objects == 2
    halves = np.bincount(found.label_image.ravel())[1:]
    assert halves.min() > 0.9 * halves.max()


def test_holes_are_filled_and_small_objects_left_out() -> None:
    ring = discs((60, 80), (30, 30)) & ~discs((60, 80), (30, 30), radius=4)
    pixels = (ring | discs((60, 80), (10, 70), radius=2)).astype(np.uint8)
    found = segment(pixels, smoothing=0, min_area=30)
    assert found.n_objects == 1
    assert found.label_image[30, 30] == 1
    assert found.label_image[10, 70] == 0


@pytest.mark.parametrize(
    ("dtype", "low", "high"),
    [
        (np.uint8, 10, 250),
        (np.uint16, 200, 60_000),
        (np.int16, -30_000, 30_000),
        (np.uint32, 0, 4_000_000_000),
        (np.float32, -1e-3, 1e-3),
        (np.float64, -1.7e308, 1.7e308),
    ],
)
def test_pixel_types_are_used_in_full(dtype, low, high) -> None:
    found = segment(np.where(APART, high, low).astype(dtype), smoothing=0)
    assert np.array_equal(found.label_image > 0, APART)


def test_colour_finds_what_intensity_cannot() -> None:
    pixels = np.full((*APART.shape, 3), 90, np.uint8)
    pixels[APART] = [180, 60, 30]
    assert np.ptp(pixels.astype(int).sum(2)) == 0
    assert segment(pixels).n_objects == 0
    assert segment(pixels, feature="colour").n_objects == 3


def test_texture_finds_what_intensity_cannot() -> None:
    checker = np.indices(APART.shape).sum(0) % 2
    pixels = np.where(APART, 100 + 80 * (2 * checker - 1), 100).astype(np.uint8)
    found = segment(pixels, feature="texture", window=5)
    assert found.n_objects == 3
    assert (found.label_image[APART] > 0).mean() > 0.95


def test_density_groups_scattered_dots() -> None:
    dots = np.random.default_rng(0).random((120, 160)) < 0.25
    region = discs((120, 160), (60, 80), radius=30)
    found = segment((dots & region).astype(np.uint8) * 255, feature="density", min_distance=20)
    assert found.n_objects == 1
    assert (found.label_image > 0)[region].mean() > 0.9


def test_coins() -> None:
    """24 coins on an uneven background, of which the brighter half defeats one global threshold."""
    found = segment(data.coins(), threshold="li", min_area=500, min_distance=15)
    assert 20 <= found.n_objects <= 28


def test_fluorescence_nuclei_are_a_fair_baseline(shared_data: Path) -> None:
    """Pooled average precision at IoU 0.5 on all 56 images was 0.67 when this was written."""
    folder = shared_data / "nuclei"
    with (folder / "index.csv").open() as file:
        rows = [
            row["image_id"]
            for row in csv.DictReader(file)
            if row["split"] == "val" and row["kind"] == "fluorescence"
        ]
    hits = truths = predictions = 0
    for image_id in rows[:20]:
        (image,) = (folder / "images").glob(f"{image_id}.*")
        (label,) = (folder / "labels").glob(f"{image_id}.*")
        truth, _, _ = relabel_sequential(np.asarray(Image.open(label)).astype(np.uint32))
        found = segment(np.asarray(Image.open(image).convert("L")))
        hits += true_positives(match(truth, found.label_image), 0.5)
        truths += int(truth.max())
        predictions += found.n_objects
    assert average_precision(hits, truths, predictions) > 0.6


def test_options_of_another_method_are_refused() -> None:
    with pytest.raises(SpecError, match="unet"):
        ClassicalSegmenter(SegmentSpec(model=MODEL, options=UNetOptions()))
