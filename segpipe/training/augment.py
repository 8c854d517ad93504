"""Random variation of training crops: magnification, orientation, contrast, blur and noise."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage
from torch.nn.functional import interpolate

from segpipe.segmenters.preprocess import Planes
from segpipe.training.recipe import AugmentRecipe, Range
from segpipe.training.targets import FloatMap

T = TypeVar("T", bound=np.generic)


@dataclass(frozen=True, slots=True, eq=False)
class Field:
    """An image, or a crop of one, with its truth.

    Attributes:
        planes: (C, H, W) float32, C is 1 or 3, scaled as the network takes it.
        labels: (H, W) int32, 0 is background.
        distance: (H, W) float32 in [0, 1], see `normalised_distance`.
    """

    planes: Planes
    labels: npt.NDArray[np.int32]
    distance: FloatMap


def augment(field: Field, side: int, recipe: AugmentRecipe, rng: np.random.Generator) -> Field:
    """A random crop of `side` x `side` pixels with 3 channels, varied as the recipe says."""
    if rng.random() < recipe.empty:
        return _empty(side, rng)
    crop = _turn(_crop(field, side, recipe, rng), rng)
    planes = _colours(crop.planes, recipe, rng)
    planes = _intensities(planes, recipe, rng)
    return Field(np.ascontiguousarray(planes, np.float32), crop.labels, crop.distance)


def _crop(field: Field, side: int, recipe: AugmentRecipe, rng: np.random.Generator) -> Field:
    """A window at a random place and magnification; beyond the image it is mirrored."""
    scale = _log_uniform(recipe.scale, rng)
    stretch = _log_uniform((1 / recipe.stretch, recipe.stretch), rng)
    window = []
    for extent, factor in zip(field.labels.shape, (scale * stretch, scale / stretch), strict=True):
        length = max(8, round(side / factor))
        start = int(rng.integers(0, extent - length + 1)) if extent > length else 0
        window.append(_mirrored(start, length, extent))
    rows, columns = np.ix_(*window)
    planes = torch.from_numpy(field.planes[:, rows, columns])
    labels = torch.from_numpy(field.labels[rows, columns])
    distance = torch.from_numpy(field.distance[rows, columns])
    size = (side, side)
    return Field(
        interpolate(planes[None], size, mode="bilinear", antialias=True)[0].numpy(),
        interpolate(labels[None, None].double(), size, mode="nearest-exact")[0, 0].int().numpy(),
        interpolate(distance[None, None], size, mode="bilinear", antialias=True)[0, 0].numpy(),
    )


def _mirrored(start: int, length: int, extent: int) -> npt.NDArray[np.intp]:
    """Indices start..start+length-1, reflected at both ends of 0..extent-1."""
    period = max(1, 2 * (extent - 1))
    folded = np.arange(start, start + length) % period
    return np.minimum(folded, period - folded) if extent > 1 else np.zeros(length, np.intp)


def _turn(field: Field, rng: np.random.Generator) -> Field:
    """One of the eight orientations of the square."""
    quarter_turns, flip = int(rng.integers(4)), bool(rng.integers(2))

    def turned(array: npt.NDArray[T]) -> npt.NDArray[T]:
        flipped = array[..., ::-1] if flip else array
        return np.ascontiguousarray(np.rot90(flipped, quarter_turns, axes=(-2, -1)))

    return Field(turned(field.planes), turned(field.labels), turned(field.distance))


def _colours(planes: Planes, recipe: AugmentRecipe, rng: np.random.Generator) -> Planes:
    """Three channels, sometimes grey, sometimes of other colours."""
    if len(planes) == 3 and rng.random() < recipe.grey:
        planes = planes.mean(0, keepdims=True, dtype=np.float32)
    planes = np.repeat(planes, 3, axis=0) if len(planes) == 1 else planes
    if rng.random() < recipe.tint:
        planes = planes[rng.permutation(3)] * rng.uniform(0.3, 1.1, (3, 1, 1)).astype(np.float32)
    return planes


def _intensities(planes: Planes, recipe: AugmentRecipe, rng: np.random.Generator) -> Planes:
    """Contrast, brightness, polarity, sharpness and noise.

    Gamma acts on what lies in 0..1 and leaves brighter and darker samples as they are.
    """
    inside = np.clip(planes, 0, 1)
    planes = planes + np.power(inside, np.float32(_log_uniform(recipe.gamma, rng))) - inside
    if rng.random() < recipe.invert:
        planes = 1 - planes
    gain, offset = np.float32(rng.uniform(*recipe.gain)), np.float32(rng.uniform(*recipe.offset))
    planes = planes * gain + offset
    if rng.random() < recipe.blur_probability:
        sigma = rng.uniform(*recipe.blur)
        planes = ndimage.gaussian_filter(planes, (0, sigma, sigma))
    if rng.random() < recipe.noise_probability:
        planes = planes + _noise(planes.shape, rng) * np.float32(rng.uniform(*recipe.noise))
    return planes


def _noise(shape: tuple[int, ...], rng: np.random.Generator) -> Planes:
    """White noise, the same in all channels or independent, at random."""
    channels = 3 if rng.random() < 0.3 else 1
    noise = rng.standard_normal((channels, *shape[1:]), np.float32)
    return np.broadcast_to(noise, shape)


def _empty(side: int, rng: np.random.Generator) -> Field:
    """What percentile scaling makes of an image without objects: smoothed noise over 0..1."""
    noise = ndimage.gaussian_filter(
        rng.standard_normal((side, side), np.float32), rng.uniform(0, 1.5)
    )
    low, high = np.percentile(noise, (1, 99.8))
    plane = ((noise - low) / (high - low)).astype(np.float32)
    return Field(
        np.ascontiguousarray(np.broadcast_to(plane, (3, side, side))),
        np.zeros((side, side), np.int32),
        np.zeros((side, side), np.float32),
    )


def _log_uniform(bounds: Range, rng: np.random.Generator) -> float:
    return math.exp(rng.uniform(math.log(bounds[0]), math.log(bounds[1])))
