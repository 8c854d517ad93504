"""Real fields of nuclei that were not trained on, side by side, and their true objects."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image


class Mosaic(NamedTuple):
    """One image, and what is in it.

    Attributes:
        pixels: (H, W, 1) uint8.
        truth: (H, W) uint32 label image; an object never goes on in the next field.
    """

    pixels: np.ndarray
    truth: np.ndarray


def mosaic_of(data: Path, across: int) -> Mosaic:
    """The first `across` x `across` fields of 256 x 256 pixels, in the order of their names.

    Args:
        data: folder of the nuclei, with `index.csv`, `images` and `labels`.

    Raises:
        ValueError: there are not so many.
    """
    with (data / "index.csv").open() as file:
        names = sorted(
            row["image_id"] for row in csv.DictReader(file)
            if (row["kind"], row["width"], row["height"]) == ("fluorescence", "256", "256")
            and row["split"] == "val"
        )  # fmt: skip
    if len(names) < across**2:
        raise ValueError(f"{data}: {len(names)} fields, and {across} x {across} are asked for")
    pixels, truth, most = [], [], 0
    for name in names[: across**2]:
        pixels.append(np.asarray(_open(data / "images", name).convert("L")))
        labels = np.asarray(_open(data / "labels", name)).astype(np.uint32)
        truth.append(np.where(labels > 0, labels + most, 0).astype(np.uint32))
        most += int(labels.max(initial=0))
    return Mosaic(_side_by_side(pixels, across)[..., None], _side_by_side(truth, across))


def _open(folder: Path, name: str) -> Image.Image:
    (path,) = folder.glob(f"{name}.*")
    return Image.open(path)


def _side_by_side(fields: list[np.ndarray], across: int) -> np.ndarray:
    rows = [fields[first : first + across] for first in range(0, across**2, across)]
    return np.block(rows)
