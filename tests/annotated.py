"""Small annotated image sets that tests train on."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from segpipe.training import read_recipe
from segpipe.training.data import Example, list_data, of_split, read_example

DISCS = """
name = "discs"
description = "Bright discs."
licence = "CC0-1.0"
classes = ["background", "disc"]
seed = 3

[network]
kind = "unet"
task = "instances"

[network.architecture]
decoder_channels = [16, 16, 8, 8, 8]
outputs = 3

[preprocess.scaling]
kind = "percentile"

[postprocess]
kind = "unet"

[data]
name = "generated discs"
licence = "CC0-1.0"
file = "image_id"
subgroup = "kind"
crop = 64
weights = { disc = 1.0 }

[optimiser]
steps = 12
batch = 4
learning_rate = 0.01
ema_decay = 0.5

[validation]
every = 3
crops = 4

[validation.tune]
foreground_threshold = [0.3, 0.5]
"""
"""A recipe that takes two seconds."""


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


def write_index(folder: Path, rows: list[tuple[str, ...]], *more: str) -> None:
    """`index.csv` with the columns image_id, split, kind and `more`."""
    with (folder / "index.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("image_id", "split", "kind", *more), *rows])


def disc_folder(folder: Path) -> Path:
    """Four images to train on and two to validate with."""
    for seed in range(6):
        write_image(folder, f"{seed}", *disc_image(seed))
    write_index(folder, [(f"{seed}", "val" if seed > 3 else "train", "disc") for seed in range(6)])
    return folder


def validation_images(folder: Path, recipe_name: str) -> Iterator[Example]:
    """The validation images of a shipped recipe's data set, one after the other."""
    recipe, _ = read_recipe(Path(recipe_name))
    for one in of_split(list_data(folder, recipe.data, recipe.classes), "val"):
        yield read_example(one)
