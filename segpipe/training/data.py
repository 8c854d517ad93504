"""A folder of annotated images: what is in it, which split an image belongs to, reading one.

Two layouts (`DataRecipe.layout`): `images/` and `labels/` with files of the same names, or
`images/` and `annotations.json` (see `segpipe.training.coco`). With either, `index.csv` may say
the split, the group and the subgroup of each file; images that it does not list are not used.
Images are read as a run reads them.
"""

from __future__ import annotations

import csv
import hashlib
import logging
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath

import numpy as np
import numpy.typing as npt

from segpipe.errors import InputError, SpecError
from segpipe.readers import Reader, list_collection
from segpipe.records import DecodedImage, ImageRef, Pixels
from segpipe.report.truth import find_truth, read_truth
from segpipe.segmenters.weights import sha256_file
from segpipe.spec import Limits
from segpipe.training.coco import coco_truths
from segpipe.training.recipe import DataRecipe

log = logging.getLogger(__name__)

Labels = npt.NDArray[np.int32]
ClassIds = npt.NDArray[np.int64]
Truth = tuple[Labels, ClassIds]
"""(H, W) label image, and the class of each label (N + 1,), entry 0 being 0."""

ReadTruth = Callable[[tuple[int, int]], Truth]
"""From the image's (height, width) to its truth."""


@dataclass(frozen=True, slots=True)
class Annotated:
    """One annotated image, not yet read.

    Attributes:
        name: path below `images/`.
        ref: where it is.
        truth_file: what its truth is read from.
        group, subgroup: see `DataRecipe`.
        split: `train`, `val`, another name, or empty where nobody has said.
    """

    name: str
    ref: ImageRef
    truth_file: Path
    read_truth: ReadTruth
    group: str
    subgroup: str
    split: str


@dataclass(frozen=True, slots=True, eq=False)
class Example:
    """One annotated image: its pixels, its objects, and what it belongs to.

    Attributes:
        image: as a run would read it.
        labels: (H, W) int32, 0 is background; the classes themselves where the truth is classes.
        class_ids: (N + 1,) int64, the class of each label; entry 0 is 0.
    """

    name: str
    subgroup: str
    image: DecodedImage
    labels: Labels
    class_ids: ClassIds

    @property
    def pixels(self) -> Pixels:
        """(H, W, C), native type."""
        return self.image.pixels

    @property
    def classes(self) -> Labels:
        """(H, W) int32: the class of each pixel."""
        return self.class_ids[self.labels].astype(np.int32)


def list_data(folder: Path, recipe: DataRecipe, classes: Sequence[str]) -> list[Annotated]:
    """All annotated images of a folder, by name, each in a split.

    Where no column `split` says otherwise, `recipe.validation` of the groups become `val`: those
    whose names' hashes are smallest, so that the choice depends on nothing else.

    Raises:
        SpecError: a file or column is missing, or a group is in two splits.
    """
    refs = {ref.path: ref for ref in list_collection(str(folder / "images"))}
    index = folder / "index.csv"
    rows = _rows(index, recipe) if index.is_file() else [{recipe.file: path} for path in refs]
    truths = _truths(folder, recipe, classes)
    named = {_stem(path): ref for path, ref in refs.items()} | refs
    found = [_annotated(row, folder, recipe, named, truths) for row in rows]
    if unused := len(refs) - len(found):
        log.warning("%s: %d images are not in index.csv and not used", folder, unused)
    if not any(one.split for one in found):
        found = _hold_out(found, recipe.validation)
    _check_groups(found, folder)
    return found


def of_split(data: Iterable[Annotated], split: str) -> list[Annotated]:
    """The images of one split.

    Raises:
        SpecError: there is none.
    """
    data = list(data)
    members = [one for one in data if one.split == split]
    if not members:
        there = dict(Counter(one.split for one in data))
        raise SpecError(f"no image with split = {split!r}; there are {there}")
    return members


def read_example(one: Annotated) -> Example:
    """Read an image and its truth.

    Raises:
        SpecError: either cannot be read, or they differ in size.
    """
    image = _read_image(one)
    labels, class_ids = one.read_truth(image.header.shape)
    return Example(one.name, one.subgroup, image, labels, class_ids)


def data_digest(data: Iterable[Annotated]) -> str:
    """sha256 over names and bytes of all images and truths, in order: what was trained on."""
    data = list(data)
    truths = {path: sha256_file(path) for path in {one.truth_file for one in data}}
    total = hashlib.sha256()
    for one in data:
        total.update(f"{one.name} {_read_image(one).sha256}\n".encode())
        total.update(f"{one.truth_file.name} {truths[one.truth_file]}\n".encode())
    return total.hexdigest()


def _read_image(one: Annotated) -> DecodedImage:
    try:
        with Reader(Limits()) as reader:
            return reader.read(one.ref)
    except InputError as error:
        raise SpecError(f"{one.name}: {error}") from error


def _annotated(
    row: dict[str, str],
    folder: Path,
    recipe: DataRecipe,
    refs: Mapping[str, ImageRef],
    truths: Mapping[str, tuple[Path, ReadTruth]],
) -> Annotated:
    ref = refs.get(row[recipe.file])
    if ref is None:
        raise SpecError(f"{folder}/images: no image {row[recipe.file]!r}, which index.csv names")
    truth = truths.get(ref.path) or truths.get(_stem(ref.path))
    if truth is None:
        raise SpecError(f"{folder}: no truth for the image {ref.path!r}")
    return Annotated(
        name=ref.path,
        ref=ref,
        truth_file=truth[0],
        read_truth=truth[1],
        group=row.get(recipe.group) or ref.path,
        subgroup=row.get(recipe.subgroup, ""),
        split=row.get("split", ""),
    )


def _truths(
    folder: Path, recipe: DataRecipe, classes: Sequence[str]
) -> dict[str, tuple[Path, ReadTruth]]:
    """Name of the image, of label images without suffix -> the file, and how it is read."""
    if recipe.layout == "coco":
        path = folder / "annotations.json"
        return {name: (path, truth) for name, truth in coco_truths(path, classes).items()}
    return {
        key: (path, partial(_label_image, path, recipe.truth, len(classes)))
        for key, path in find_truth(folder / "labels").items()
    }


def _stem(name: str) -> str:
    return PurePosixPath(name).with_suffix("").as_posix()


def _rows(index: Path, recipe: DataRecipe) -> list[dict[str, str]]:
    try:
        with index.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise SpecError(f"{index}: cannot be read: {error}") from error
    for column in filter(None, (recipe.file, recipe.group, recipe.subgroup)):
        if not rows or column not in rows[0]:
            there = ", ".join(rows[0]) if rows else "no row at all"
            raise SpecError(f"{index}: no column {column!r}; there is {there}")
    return rows


def _label_image(path: Path, truth: str, n_classes: int, shape: tuple[int, int]) -> Truth:
    labels = read_truth(path, shape).astype(np.int32)
    if truth == "classes":
        highest = int(labels.max(initial=0))
        if highest >= n_classes:
            raise SpecError(f"{path}: holds class {highest}; the recipe has 0 to {n_classes - 1}")
        return labels, np.arange(n_classes)
    if n_classes != 2:
        raise SpecError(
            f"{path}: a label image says nothing of the class of an object, and the recipe has "
            f"{n_classes - 1} classes; use layout = 'coco'"
        )
    values, compact = np.unique(labels, return_inverse=True)
    if values[0] != 0:  # no background at all
        values, compact = np.append(0, values), compact + 1
    return compact.reshape(shape).astype(np.int32), (np.arange(len(values)) > 0).astype(np.int64)


def _hold_out(data: list[Annotated], fraction: float) -> list[Annotated]:
    groups = sorted({one.group for one in data}, key=lambda g: hashlib.sha256(g.encode()).digest())
    held_out = set(groups[: math.ceil(fraction * len(groups))])
    if len(held_out) == len(groups):
        raise SpecError(f"{len(groups)} group of images; training and validation need one each")
    return [replace(one, split="val" if one.group in held_out else "train") for one in data]


def _check_groups(data: list[Annotated], folder: Path) -> None:
    splits = defaultdict(set)
    for one in data:
        splits[one.group].add(one.split)
    for group, names in splits.items():
        if len(names) > 1:
            raise SpecError(
                f"{folder}: group {group!r} is in the splits {sorted(names)}; what was seen in "
                "training cannot say how good the model is on new images"
            )
    others = Counter(one.split for one in data if one.split not in ("train", "val"))
    for name, count in others.items():
        log.warning("%s: %d images of split %r are not used", folder, count, name)
