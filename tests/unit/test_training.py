"""Training learns, repeats itself for a seed, and leaves a file that a run can use."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from segpipe.errors import SpecError
from segpipe.segmenters.weights import load_tensors, read_header
from segpipe.training.__main__ import main
from segpipe.training.augment import Field, augment
from segpipe.training.data import RandomCrops, read_split, split_digest
from segpipe.training.loop import Progress
from segpipe.training.recipe import AugmentRecipe, Recipe, read_recipe
from segpipe.training.run import fit
from segpipe.training.targets import normalised_distance, touching_edges

RECIPE = """
name = "discs"
description = "Bright discs."
licence = "CC0-1.0"
classes = ["background", "disc"]
seed = 3

[architecture]
decoder_channels = [16, 16, 8, 8, 8]
outputs = 3

[preprocess.scaling]
kind = "percentile"

[data]
name = "generated discs"
licence = "CC0-1.0"
crop = 64
kind_weights = { disc = 1.0 }

[optimiser]
steps = 12
batch = 4
learning_rate = 0.01
ema_decay = 0.5
"""

GEOMETRY_ONLY = AugmentRecipe(
    gamma=(1, 1),
    gain=(1, 1),
    offset=(0, 0),
    blur_probability=0,
    noise_probability=0,
    tint=0,
    grey=0,
    invert=0,
    empty=0,
)


def disc_image(seed: int, side: int = 72) -> tuple[np.ndarray, np.ndarray]:
    """Bright discs on a dark ground, uint8, and their label image."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side]
    labels = np.zeros((side, side), np.uint16)
    for label, (cy, cx, radius) in enumerate(rng.uniform((0, 0, 5), (side, side, 12), (6, 3)), 1):
        labels[np.hypot(y - cy, x - cx) < radius] = label
    pixels = rng.normal(30, 5, labels.shape) + np.where(labels > 0, 120, 0)
    return pixels.astype(np.uint8), labels


def write_image(folder: Path, image_id: str, pixels: np.ndarray, labels: np.ndarray) -> None:
    for part, array in (("images", pixels), ("labels", labels)):
        (folder / part).mkdir(parents=True, exist_ok=True)
        Image.fromarray(array).save(folder / part / f"{image_id}.png")


def write_index(folder: Path, rows: list[tuple[str, str, str]]) -> None:
    with (folder / "index.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("image_id", "split", "kind"), *rows])


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """So small a network gains nothing from more, and loses much on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def discs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("discs")
    for seed in range(6):
        write_image(folder, f"{seed}", *disc_image(seed))
    write_index(folder, [(f"{seed}", "val" if seed > 3 else "train", "disc") for seed in range(6)])
    return folder


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    path = tmp_path / "recipe.toml"
    path.write_text(RECIPE)
    return read_recipe(path)[0]


def run(recipe: Recipe, folder: Path, workers: int = 0) -> tuple[torch.nn.Module, list[float]]:
    losses: list[float] = []

    def note(progress: Progress) -> None:
        losses.append(sum(progress.losses.values()))

    return fit(recipe, folder, note, workers), losses


def test_it_learns_and_repeats_itself(recipe: Recipe, discs: Path) -> None:
    first, losses = run(recipe, discs)
    second, same_losses = run(recipe, discs, workers=1)
    assert np.mean(losses[-3:]) < 0.7 * np.mean(losses[:3])
    assert losses == same_losses
    for name, tensor in first.state_dict().items():
        assert torch.equal(tensor, second.state_dict()[name]), name
    other, _ = run(recipe.model_copy(update={"seed": 4}), discs)
    assert not torch.equal(
        other.get_parameter("segmentation_head.0.weight"),
        first.get_parameter("segmentation_head.0.weight"),
    )


def test_the_command_writes_a_file_that_says_where_it_comes_from(
    discs: Path, tmp_path: Path
) -> None:
    recipe, out = tmp_path / "discs.toml", tmp_path / "discs.safetensors"
    recipe.write_text(RECIPE)
    arguments = [str(recipe), "--data", str(discs), "--out", str(out), "--workers", "0"]
    assert main(arguments) == 0
    header = read_header(out)
    assert header.name == "discs"
    assert header.classes == ("background", "disc")
    record = header.training
    assert record is not None
    assert record.recipe == RECIPE
    assert record.data_sha256 == split_digest(discs, "train")
    assert (record.images, record.steps, record.seed) == (4, 12, 3)
    assert record.metrics.keys() == {"disc/fp32", "disc/bf16", "disc/classical"}
    assert record.metrics["disc/classical"]["images"] == 2
    assert all(torch.isfinite(tensor).all() for tensor in load_tensors(out).values())


def test_the_command_says_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = tmp_path / "bad.toml"
    recipe.write_text(RECIPE.replace("ema_decay", "ema_decline"))
    assert main([str(recipe), "--data", str(tmp_path), "--out", str(tmp_path / "x")]) == 2
    assert "ema_decline" in capsys.readouterr().err


def test_committed_recipes_are_valid() -> None:
    folder = resources.files("segpipe.training") / "recipes"
    with resources.as_file(folder) as path:
        recipes = [read_recipe(file)[0] for file in path.glob("*.toml")]
    assert [recipe.name for recipe in recipes] == ["unet-nuclei"]


def test_crops_depend_on_the_seed_and_the_index_alone(recipe: Recipe, discs: Path) -> None:
    def crops(seed: int) -> RandomCrops:
        examples = read_split(discs, "train")
        return RandomCrops(examples, recipe.preprocess, recipe.data, recipe.augment, 8, seed)

    forwards = [crops(1)[index] for index in range(8)]
    again = crops(1)
    for index in reversed(range(8)):
        for a, b in zip(forwards[index], again[index], strict=True):
            assert torch.equal(a, b)
    assert not torch.equal(forwards[0][0], crops(2)[0][0])
    planes, targets = forwards[0]
    assert planes.shape == targets.shape == (3, 64, 64)
    assert planes.dtype == targets.dtype == torch.float32
    assert targets.min() >= 0
    assert targets.max() <= 1


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1), st.sampled_from([40, 96, 160]))
def test_the_truth_moves_with_the_image(image_seed: int, crop_seed: int, side: int) -> None:
    _, labels = disc_image(image_seed, side)
    drawn = (labels > 0).astype(np.float32)[None]
    field = Field(drawn, labels.astype(np.int32), normalised_distance(labels))
    crop = augment(field, 64, GEOMETRY_ONLY, np.random.default_rng(crop_seed))
    assert crop.planes.shape == (3, 64, 64)
    # Resampling is smooth for the image and nearest for the labels: only borders may differ.
    assert np.mean((crop.planes[0] > 0.5) ^ (crop.labels > 0)) < 0.03
    assert np.mean((crop.distance > 0.5) & (crop.labels == 0)) < 0.01
    assert set(np.unique(crop.labels)) <= set(np.unique(labels))


@given(st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=25)
def test_distance_peaks_once_in_each_object(seed: int) -> None:
    _, labels = disc_image(seed, 50)
    distance = normalised_distance(labels)
    assert distance.dtype == np.float32
    assert np.all((distance > 0) == (labels > 0))
    for label in np.unique(labels[labels > 0]):
        assert distance[labels == label].max() == 1


def test_an_object_that_fills_the_image_has_no_border() -> None:
    assert np.all(normalised_distance(np.full((5, 7), 2, np.uint16)) == 1)


def test_the_borders_of_the_image_are_not_borders_of_objects() -> None:
    labels = np.zeros((20, 20), np.uint16)
    labels[:10] = 1
    assert np.allclose(normalised_distance(labels)[:10, 3], np.linspace(1, 0.1, 10))


def test_edges_are_where_two_objects_are_near() -> None:
    labels = np.zeros((9, 20), np.uint16)
    labels[:, :6] = 1
    labels[:, 6:12] = 2  # touches 1
    labels[:, 17:] = 3  # is five pixels away from 2
    columns = np.flatnonzero(touching_edges(labels).all(0))
    assert columns.tolist() == [4, 5, 6, 7]
    assert not touching_edges(labels)[:, 8:].any()


@pytest.mark.parametrize(
    ("break_it", "says"),
    [
        (lambda folder: (folder / "index.csv").unlink(), "index.csv"),
        (lambda folder: write_index(folder, [("a", "val", "disc")]), "split = 'train'"),
        (lambda folder: write_index(folder, [("b", "train", "disc")]), "b.png"),
        (lambda folder: write_index(folder, [("a", "train", "cell")]), "'cell'"),
        (
            lambda folder: write_image(
                folder, "a", np.zeros((8, 8, 4), np.uint8), np.zeros((8, 8), np.uint8)
            ),
            "RGBA",
        ),
        (
            lambda folder: write_image(
                folder, "a", np.zeros((8, 9), np.uint8), np.zeros((8, 8), np.uint8)
            ),
            r"\(8, 9\)",
        ),
    ],
)
def test_unusable_data_is_named(break_it, says: str, recipe: Recipe, tmp_path: Path) -> None:
    write_image(tmp_path, "a", *disc_image(0))
    write_index(tmp_path, [("a", "train", "disc")])
    break_it(tmp_path)
    with pytest.raises(SpecError, match=says):
        run(recipe, tmp_path)
