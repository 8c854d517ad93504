"""A data set of images and label images on disk, and the random crops that are learnt from.

Layout of the folder: `index.csv` (columns `image_id`, `split`, `kind`), `images/<image_id>.png`
(8-bit grey or RGB) and `labels/<image_id>.png` (0 is background, 1..N are objects).
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch.utils.data import Dataset

from segpipe.errors import SpecError
from segpipe.records import LabelArray, Pixels
from segpipe.segmenters.preprocess import Planes, to_planes
from segpipe.spec import Preprocess
from segpipe.training.augment import Field, augment
from segpipe.training.recipe import AugmentRecipe, DataRecipe
from segpipe.training.targets import normalised_distance, touching_edges


@dataclass(frozen=True, slots=True, eq=False)
class Example:
    """One annotated image: `pixels` (H, W, C) uint8 and `labels` (H, W) uint16."""

    image_id: str
    kind: str
    pixels: Pixels
    labels: LabelArray


def read_split(folder: Path, split: str) -> Iterator[Example]:
    """The images of one split, in the order of `index.csv`.

    Raises:
        SpecError: no such split, a file that is missing or has another shape or pixel type.
    """
    rows = _rows(folder, split)
    for row in rows:
        image_id = row["image_id"]
        pixels = _read(folder / "images" / f"{image_id}.png", ("L", "RGB"))
        labels = _read(folder / "labels" / f"{image_id}.png", ("L", "I;16"))
        if pixels.shape[:2] != labels.shape:
            raise SpecError(
                f"{folder}: {image_id}: image is {pixels.shape[:2]}, labels are {labels.shape}"
            )
        yield Example(image_id, row["kind"], pixels.reshape(*labels.shape, -1), labels)


def split_digest(folder: Path, split: str) -> str:
    """sha256 over the names and bytes of all files of a split, in order: what was trained on."""
    total = hashlib.sha256()
    for row in _rows(folder, split):
        for part in ("images", "labels"):
            name = f"{part}/{row['image_id']}.png"
            content = hashlib.sha256((folder / name).read_bytes()).hexdigest()
            total.update(f"{name} {content}\n".encode())
    return total.hexdigest()


class RandomCrops(Dataset[tuple[torch.Tensor, torch.Tensor]]):
    """`length` random crops; crop i is the same in every process and every epoch for a seed.

    An item is (3, S, S) float32 network input and (3, S, S) float32 targets: foreground (0 or 1),
    normalised distance (0..1), touching edge (0 or 1).
    """

    def __init__(
        self,
        examples: Iterator[Example],
        preprocess: Preprocess,
        data: DataRecipe,
        variation: AugmentRecipe,
        length: int,
        seed: int,
    ) -> None:
        self._data, self._variation = data, variation
        self._length, self._seed = length, seed
        self._fields: list[Field] = []
        kinds: list[str] = []
        for example in examples:
            if example.kind not in data.kind_weights:
                raise SpecError(f"kind_weights has no {example.kind!r} (image {example.image_id})")
            self._fields.append(_field(example, preprocess))
            kinds.append(example.kind)
        areas = np.array([field.labels.size for field in self._fields], np.float64)
        self._chances = _chances(np.array(kinds), areas**data.area_power, data.kind_weights)

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        rng = np.random.default_rng((self._seed, index))
        field = self._fields[rng.choice(len(self._fields), p=self._chances)]
        crop = augment(field, self._data.crop, self._variation, rng)
        targets = np.stack(
            [crop.labels > 0, crop.distance, touching_edges(crop.labels)], dtype=np.float32
        )
        return torch.from_numpy(crop.planes), torch.from_numpy(targets)


def _field(example: Example, preprocess: Preprocess) -> Field:
    planes: Planes = to_planes(example.pixels, preprocess)
    channels = example.pixels.shape[2]  # grey is kept once, and repeated crop by crop
    return Field(
        np.ascontiguousarray(planes[:channels]),
        example.labels.astype(np.int32),
        normalised_distance(example.labels),
    )


def _chances(
    kinds: npt.NDArray[np.str_], weights: npt.NDArray[np.float64], shares: dict[str, float]
) -> npt.NDArray[np.float64]:
    """Each image's chance: its kind gets its share, divided within the kind by weight."""
    chances = np.zeros_like(weights)
    for kind in np.unique(kinds):
        members = kinds == kind
        chances[members] = shares[kind] * weights[members] / weights[members].sum()
    normalised: npt.NDArray[np.float64] = chances / chances.sum()
    return normalised


def _rows(folder: Path, split: str) -> list[dict[str, str]]:
    try:
        with (folder / "index.csv").open(newline="", encoding="utf-8") as file:
            rows = [row for row in csv.DictReader(file) if row["split"] == split]
    except OSError as error:
        raise SpecError(f"{folder}: no readable index.csv: {error.strerror}") from error
    except KeyError as error:
        raise SpecError(f"{folder}/index.csv: no column {error}") from error
    if not rows:
        raise SpecError(f"{folder}/index.csv: no image with split = {split!r}")
    return rows


def _read(path: Path, modes: tuple[str, ...]) -> Pixels:
    try:
        with Image.open(path) as image:
            if image.mode not in modes:
                raise SpecError(f"{path}: pixel mode {image.mode}; allowed: {', '.join(modes)}")
            return np.asarray(image)
    except OSError as error:
        raise SpecError(f"{path}: cannot be read: {error}") from error
