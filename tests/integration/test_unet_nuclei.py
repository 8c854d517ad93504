"""The shipped weights find nuclei in real images that they were not trained on."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
import torch

from segpipe.errors import WeightsError
from segpipe.records import DecodedImage, Header
from segpipe.segmenters.base import Segmenter
from segpipe.segmenters.build import build
from segpipe.segmenters.catalog import SHIPPED, resolve
from segpipe.segmenters.weights import load_tensors, read_header, save
from segpipe.spec import RunSpec
from segpipe.training.data import Example
from segpipe.training.evaluate import Numbers, evaluate
from tests.annotated import validation_images

WEIGHTS = SHIPPED / "unet-nuclei.safetensors"
RUN = RunSpec(source="", store="", model="unet-nuclei", device="cpu", precision="fp32")


@pytest.fixture(scope="module")
def segmenter() -> Segmenter:
    model = resolve(RUN)
    return build(model.spec, model.weights_path)


@pytest.fixture(scope="module")
def some_examples(shared_data: Path) -> list[Example]:
    """Eight small fluorescence images and two stained ones of the validation split."""
    fluorescence: list[Example] = []
    stained: list[Example] = []
    for example in validation_images(shared_data / "nuclei", "unet-nuclei"):
        if example.subgroup == "fluorescence" and example.labels.size < 100_000:
            fluorescence.append(example)
        if example.subgroup == "colour_stain":
            stained.append(example)
    return fluorescence[:8] + stained[:2]


def decoded(pixels: np.ndarray) -> DecodedImage:
    return DecodedImage(pixels, Header(*pixels.shape, str(pixels.dtype), "png", "test"), "")


def segment(segmenter: Segmenter, pixels: np.ndarray) -> np.ndarray:
    image = decoded(pixels)
    (raw,) = segmenter.forward([segmenter.prepare(image)])
    return segmenter.finish(raw, image).label_image


def scores(segmenter: Segmenter, examples: Iterable[Example]) -> dict[str, Numbers]:
    return evaluate(segmenter, examples).groups


def noise(seed: int, shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, shape, np.uint8)


def test_the_file_is_small_and_complete() -> None:
    header = read_header(WEIGHTS)
    assert WEIGHTS.stat().st_size < 15_000_000
    assert header.licence == "CC0-1.0"
    assert header.training is not None
    assert header.training.metrics["fluorescence/fp32"]["images"] == 56


def test_nuclei_are_found(segmenter: Segmenter, some_examples: list[Example]) -> None:
    numbers = scores(segmenter, some_examples)
    assert numbers["fluorescence"]["ap50_mean"] > 0.8
    assert numbers["fluorescence"]["ap75_mean"] > 0.6
    assert numbers["colour_stain"]["ap50_mean"] > 0.4


def test_bf16_finds_the_same(segmenter: Segmenter, some_examples: list[Example]) -> None:
    model = resolve(RUN.model_copy(update={"precision": "bf16"}))
    bf16 = scores(build(model.spec, model.weights_path), some_examples)["fluorescence"]
    fp32 = scores(segmenter, some_examples)["fluorescence"]
    assert bf16["ap50_mean"] == pytest.approx(fp32["ap50_mean"], abs=0.03)
    assert bf16["ap75_mean"] == pytest.approx(fp32["ap75_mean"], abs=0.03)


def test_the_training_record_is_of_this_file(
    segmenter: Segmenter, some_examples: list[Example], shared_data: Path
) -> None:
    """What the header claims is what the file does (on the images of one kind, all of them)."""
    header = read_header(WEIGHTS)
    val = validation_images(shared_data / "nuclei", "unet-nuclei")
    found = scores(segmenter, (one for one in val if one.subgroup == "colour_stain"))
    assert header.training is not None
    claimed = header.training.metrics["colour_stain/fp32"]
    assert found["colour_stain"] == pytest.approx(claimed, abs=0.01)


def test_16_bit_gives_what_8_bit_gives(segmenter: Segmenter, some_examples: list[Example]) -> None:
    pixels = some_examples[0].pixels
    wide = pixels.astype(np.uint16) * 200
    assert np.array_equal(segment(segmenter, pixels) > 0, segment(segmenter, wide) > 0)


def test_batch_mates_change_nothing(segmenter: Segmenter) -> None:
    images = [decoded(noise(seed, (70, 90, 1))) for seed in range(5)]
    one, *mates = map(segmenter.prepare, images)
    found = [
        segmenter.finish(segmenter.forward([one, *others])[0], images[0])
        for others in (mates[:2], mates[2:])
    ]
    assert np.array_equal(found[0].label_image, found[1].label_image)
    assert np.array_equal(found[0].scores, found[1].scores)


@pytest.mark.parametrize("value", [0, 7, 255])
@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 200, 3), (300, 2, 1), (64, 64, 1), (65, 97, 3)])
def test_images_of_one_value_have_no_nuclei(
    segmenter: Segmenter, shape: tuple[int, int, int], value: int
) -> None:
    labels = segment(segmenter, np.full(shape, value, np.uint8))
    assert labels.shape == shape[:2]
    assert labels.max() == 0


def test_no_memory_of_other_images(segmenter: Segmenter) -> None:
    first, second = noise(1, (64, 64, 1)), noise(2, (96, 64, 3))
    before = segment(segmenter, first)
    segment(segmenter, second)
    assert np.array_equal(segment(segmenter, first), before)


def test_weights_of_another_architecture_are_refused(tmp_path: Path) -> None:
    header = read_header(WEIGHTS)
    path = tmp_path / "other.safetensors"
    tensors = load_tensors(WEIGHTS)
    tensors["extra"] = torch.zeros(1)
    save(path, tensors, header)
    model = resolve(RUN.model_copy(update={"model": str(path)}))
    with pytest.raises(WeightsError, match="extra"):
        build(model.spec, model.weights_path)
