"""The supply of random crops, of which crop i of a seed is always the same one."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from torch.utils.data import Dataset

from segpipe.errors import SpecError
from segpipe.segmenters.magnification import median_diameter
from segpipe.segmenters.preprocess import value_range
from segpipe.spec import Preprocess
from segpipe.training.augment import Augmentation, Field
from segpipe.training.data import Annotated, Example, read_example
from segpipe.training.learner import Item, Learner
from segpipe.training.recipe import DataRecipe, Recipe
from segpipe.training.targets import normalised_distance

MAX_CENTRES = 512


class Crops(Dataset[Item]):
    """`length` random crops, as a learner takes them.

    Item i is the same in every process, whatever was asked for before.
    """

    def __init__(
        self,
        data: Sequence[Annotated],
        learner: Learner,
        recipe: Recipe,
        augmentation: Augmentation,
        length: int,
        seed: int,
    ) -> None:
        self._learner, self._augmentation = learner, augmentation
        self._length, self._seed = length, seed
        self._fields = FieldCache(
            data, recipe.preprocess, learner.distances, recipe.data.cache_bytes
        )
        self._chances = chances(self._fields, recipe.data)

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> Item:
        rng = np.random.default_rng((self._seed, index))
        field = self._fields[int(rng.choice(len(self._chances), p=self._chances))]
        return self._learner.item(self._augmentation(field, rng))


class FieldCache:
    """The images of a split, read when they are asked for; as many are kept as fit."""

    def __init__(
        self, data: Sequence[Annotated], preprocess: Preprocess, distances: bool, max_bytes: int
    ) -> None:
        self.data = data
        self._preprocess, self._distances, self._max_bytes = preprocess, distances, max_bytes
        self._kept: OrderedDict[int, Field] = OrderedDict()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> Field:
        if index in self._kept:
            self._kept.move_to_end(index)
            return self._kept[index]
        field = make_field(read_example(self.data[index]), self._preprocess, self._distances)
        self._kept[index] = field
        self._bytes += _size(field)
        while self._bytes > self._max_bytes and len(self._kept) > 1:
            _, oldest = self._kept.popitem(last=False)
            self._bytes -= _size(oldest)
        return field


def make_field(example: Example, preprocess: Preprocess, distances: bool) -> Field:
    """What crops are cut from, with all that is computed once per image."""
    low, high = value_range(example.pixels, preprocess.scaling)
    return Field(
        pixels=example.pixels,
        low=low,
        high=high,
        labels=example.labels,
        class_ids=example.class_ids,
        distance=normalised_distance(example.labels) if distances else None,
        centres=_some_object_pixels(example.labels),
        diameter=median_diameter(example.labels),
    )


def chances(fields: FieldCache, recipe: DataRecipe) -> npt.NDArray[np.float64]:
    """Each image's chance: its subgroup gets its share, divided within it by area.

    Raises:
        SpecError: a subgroup has no weight; weights that are given are given for all.
    """
    subgroups = np.array([one.subgroup for one in fields.data])
    counts = {name: int((subgroups == name).sum()) for name in np.unique(subgroups)}
    shares = recipe.weights or counts
    if missing := counts.keys() - shares.keys():
        raise SpecError(f"data.weights has no share for the subgroups {sorted(missing)}")
    weights = np.ones(len(subgroups))
    if recipe.area_power:
        areas = [fields[index].labels.size for index in range(len(fields))]
        weights = np.asarray(areas, np.float64) ** recipe.area_power
    result = np.zeros(len(subgroups))
    for name in counts:
        members = subgroups == name
        result[members] = shares[name] * weights[members] / weights[members].sum()
    normalised: npt.NDArray[np.float64] = result / result.sum()
    return normalised


def _some_object_pixels(labels: npt.NDArray[np.int32]) -> npt.NDArray[np.intp]:
    """Up to `MAX_CENTRES` pixels of objects, evenly among them all, (M, 2) y and x."""
    inside = np.flatnonzero(labels)
    picked = inside[np.linspace(0, len(inside) - 1, min(len(inside), MAX_CENTRES)).astype(np.intp)]
    return np.stack(np.unravel_index(picked, labels.shape), axis=1)


def _size(field: Field) -> int:
    distance = field.distance.nbytes if field.distance is not None else 0
    return field.pixels.nbytes + field.labels.nbytes + distance
