"""Random variation of training crops, as `torchvision.transforms.v2`.

A window is cut from the image at a random place and magnification; then come orientation, colour,
contrast, sharpness and noise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from skimage.measure import label
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

from segpipe.records import Pixels
from segpipe.spec import Preprocess
from segpipe.training.recipe import AugmentRecipe, Range
from segpipe.training.targets import FloatMap

Sample = dict[str, torch.Tensor]
ClassIds = npt.NDArray[np.int64]

MAX_MAGNIFICATION = 4.0
"""Beyond a factor of 4, either way, an image shows nothing that it would at that size."""


@dataclass(frozen=True, slots=True, eq=False)
class Field:
    """An image with its truth, as the crops are cut from.

    Attributes:
        pixels: (H, W, C) native type, C is 1 or 3.
        low, high: the sample values that become 0 and 1.
        labels: (H, W) int32, 0 is background.
        class_ids: (N + 1,) int64, the class of each label; entry 0 is 0.
        distance: (H, W) float32 in [0, 1], see `normalised_distance`; None where nobody learns it.
        centres: (M, 2) y and x of places with an object.
        diameter: median over the objects of the diameter of a disc of the same area, pixels; 0
            where there is no object.
    """

    pixels: Pixels
    low: float
    high: float
    labels: npt.NDArray[np.int32]
    class_ids: ClassIds
    distance: FloatMap | None
    centres: npt.NDArray[np.intp]
    diameter: float


@dataclass(frozen=True, slots=True, eq=False)
class Crop:
    """One example to learn from.

    Attributes:
        planes: (3, S, S) float32, as the network takes it.
        labels: (S, S) int64.
        class_ids: (N + 1,) int64, the class of each label of the whole image.
        distance: (S, S) float32 in [0, 1], or None.
    """

    planes: torch.Tensor
    labels: torch.Tensor
    class_ids: torch.Tensor
    distance: torch.Tensor | None


class Augmentation:
    """From a field to a random crop of `side` x `side` pixels.

    Args:
        recipe: how much it varies.
        focus: fraction of the crops with an object at their middle.
    """

    def __init__(
        self, recipe: AugmentRecipe, side: int, preprocess: Preprocess, focus: float = 0.0
    ) -> None:
        self._recipe, self._side, self._focus = recipe, side, focus
        self._geometry = v2.Compose(_orientation(recipe))
        self._appearance = v2.Compose(_appearance(recipe))
        self._normalise = v2.Normalize(list(preprocess.mean), list(preprocess.std))

    def __call__(self, field: Field, rng: np.random.Generator) -> Crop:
        """The crop depends on `field` and the state of `rng` alone."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(rng.integers(2**62)))
            if rng.random() < self._recipe.empty:
                return self._empty(field, rng)
            window, class_ids = self._window(field, rng)
            sample = self._geometry(window)
            planes = sample["planes"].expand(3, -1, -1)
            if len(sample["planes"]) == 3:
                planes = v2.RandomGrayscale(self._recipe.grey)(planes)
            planes = self._normalise(self._appearance(planes))
        return Crop(
            planes.as_subclass(torch.Tensor).contiguous(),
            sample["labels"].as_subclass(torch.Tensor).long(),
            torch.from_numpy(class_ids),
            sample["distance"].as_subclass(torch.Tensor) if "distance" in sample else None,
        )

    def _window(self, field: Field, rng: np.random.Generator) -> tuple[Sample, ClassIds]:
        """A window at a random place and magnification; beyond the image it is mirrored."""
        scale = self._magnification(field, rng)
        stretch = _log_uniform((1 / self._recipe.stretch, self._recipe.stretch), rng)
        lengths = [max(8, round(self._side / scale * f)) for f in (1 / stretch, stretch)]
        starts = self._corner(field, lengths, rng)
        rows, columns = (
            _mirrored(start, length, extent)
            for start, length, extent in zip(starts, lengths, field.labels.shape, strict=True)
        )
        at = np.ix_(rows, columns)
        labels, class_ids = field.labels[at], field.class_ids
        if any(length > extent for length, extent in zip(lengths, field.labels.shape, strict=True)):
            labels, class_ids = _apart(labels, class_ids)
        span = field.high - field.low if field.high > field.low else np.inf
        pixels = (field.pixels[at].astype(np.float32) - np.float32(field.low)) / np.float32(span)
        sample = {
            "planes": tv_tensors.Image(self._resize(torch.from_numpy(pixels).permute(2, 0, 1))),
            "labels": tv_tensors.Mask(self._nearest(torch.from_numpy(labels))),
        }
        if field.distance is not None:
            distance = torch.from_numpy(field.distance[at])[None]
            sample["distance"] = tv_tensors.Mask(self._resize(distance)[0])
        return sample, class_ids

    def _magnification(self, field: Field, rng: np.random.Generator) -> float:
        if self._recipe.diameter is None or not field.diameter:
            return _log_uniform(self._recipe.scale, rng)
        scale = _log_uniform(self._recipe.diameter, rng) / field.diameter
        return min(MAX_MAGNIFICATION, max(1 / MAX_MAGNIFICATION, scale))

    def _corner(self, field: Field, lengths: list[int], rng: np.random.Generator) -> list[int]:
        """Where the window starts: anywhere, or so that an object is near its middle."""
        free = [extent - length for extent, length in zip(field.labels.shape, lengths, strict=True)]
        if not len(field.centres) or rng.random() >= self._focus:
            return [int(rng.integers(0, room + 1)) if room > 0 else 0 for room in free]
        middle = field.centres[rng.integers(len(field.centres))]
        starts = []
        for centre, length, room in zip(middle, lengths, free, strict=True):
            jitter = int(rng.integers(-length // 4, length // 4 + 1))
            starts.append(min(max(0, int(centre) - length // 2 + jitter), max(0, room)))
        return starts

    def _resize(self, planes: torch.Tensor) -> torch.Tensor:
        size = [self._side, self._side]
        resized: torch.Tensor = functional.resize(planes, size, antialias=True)
        return resized

    def _nearest(self, labels: torch.Tensor) -> torch.Tensor:
        size = [self._side, self._side]
        nearest = functional.InterpolationMode.NEAREST_EXACT
        resized: torch.Tensor = functional.resize(labels[None], size, interpolation=nearest)
        return resized[0]

    def _empty(self, field: Field, rng: np.random.Generator) -> Crop:
        """What percentile scaling makes of an image without objects: smoothed noise over 0..1."""
        side = self._side
        noise = functional.gaussian_blur(torch.randn(1, side, side), 9, [rng.uniform(0.1, 1.5)])
        low, high = np.percentile(noise.numpy(), (1, 99.8))
        planes = self._normalise(((noise - low) / (high - low)).expand(3, -1, -1))
        nothing = torch.zeros(side, side)
        classes = torch.from_numpy(field.class_ids)
        distance = nothing if field.distance is not None else None
        return Crop(planes.contiguous(), nothing.long(), classes, distance)


def unvaried(recipe: AugmentRecipe) -> AugmentRecipe:
    """Crops at the middle of the recipe's magnification, and otherwise as the image is."""
    middle = math.sqrt(recipe.diameter[0] * recipe.diameter[1]) if recipe.diameter else 0.0
    return AugmentRecipe(
        scale=(1, 1),
        diameter=(middle, middle) if middle else None,
        stretch=1,
        orientation="fixed",
        gamma=(1, 1),
        gain=(1, 1),
        offset=(0, 0),
        blur_probability=0,
        noise_probability=0,
    )


def _orientation(recipe: AugmentRecipe) -> list[v2.Transform]:
    match recipe.orientation:
        case "any":
            turns = [v2.RandomHorizontalFlip(), v2.RandomVerticalFlip(), RandomTranspose()]
        case "mirrored":
            turns = [v2.RandomHorizontalFlip()]
        case "fixed":
            turns = [v2.Identity()]
    if recipe.elastic:
        turns.append(v2.RandomApply([v2.ElasticTransform(alpha=60.0, sigma=6.0)], recipe.elastic))
    return turns


def _appearance(recipe: AugmentRecipe) -> list[v2.Transform]:
    return [
        v2.RandomApply([v2.RandomChannelPermutation(), RandomChannelGain()], recipe.tint),
        RandomGamma(recipe.gamma),
        v2.RandomInvert(recipe.invert),
        RandomGain(recipe.gain, recipe.offset),
        v2.RandomApply([v2.GaussianBlur(13, recipe.blur)], recipe.blur_probability),
        v2.RandomApply([RandomNoise(recipe.noise)], recipe.noise_probability),
    ]


class RandomTranspose(v2.Transform):  # type: ignore[misc]
    """Exchanges rows and columns of all planes and masks of a sample, or of none."""

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:  # noqa: ARG002
        return {"exchange": bool(torch.rand(()) < 0.5)}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        if not params["exchange"]:
            return inpt
        return tv_tensors.wrap(inpt.transpose(-2, -1).contiguous(), like=inpt)


class RandomGamma(v2.Transform):  # type: ignore[misc]
    """x to the power of gamma within 0..1; samples beyond are moved along."""

    def __init__(self, gamma: Range) -> None:
        super().__init__()
        self.gamma = gamma

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:  # noqa: ARG002
        return {"gamma": math.exp(_uniform(math.log(self.gamma[0]), math.log(self.gamma[1])))}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        inside = inpt.clamp(0, 1)
        return inpt + inside.pow(params["gamma"]) - inside


class RandomGain(v2.Transform):  # type: ignore[misc]
    """Contrast and brightness."""

    def __init__(self, gain: Range, offset: Range) -> None:
        super().__init__()
        self.gain, self.offset = gain, offset

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:  # noqa: ARG002
        return {"gain": _uniform(*self.gain), "offset": _uniform(*self.offset)}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        return inpt * params["gain"] + params["offset"]


class RandomChannelGain(v2.Transform):  # type: ignore[misc]
    """Another brightness for each channel."""

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:  # noqa: ARG002
        return {"gain": torch.empty(3, 1, 1).uniform_(0.3, 1.1)}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        return inpt * params["gain"]


class RandomNoise(v2.Transform):  # type: ignore[misc]
    """White noise, the same in all channels or, less often, independent."""

    def __init__(self, sigma: Range) -> None:
        super().__init__()
        self.sigma = sigma

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:  # noqa: ARG002
        return {"sigma": _uniform(*self.sigma), "channels": 3 if torch.rand(()) < 0.3 else 1}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        noise = torch.randn(params["channels"], *inpt.shape[-2:])
        return inpt + noise * params["sigma"]


def _mirrored(start: int, length: int, extent: int) -> npt.NDArray[np.intp]:
    """Indices start..start+length-1, reflected at both ends of 0..extent-1."""
    period = max(1, 2 * (extent - 1))
    folded = np.arange(start, start + length) % period
    return np.minimum(folded, period - folded) if extent > 1 else np.zeros(length, np.intp)


def _apart(
    labels: npt.NDArray[np.int32], class_ids: ClassIds
) -> tuple[npt.NDArray[np.int32], ClassIds]:
    """Objects and their mirror images as objects of their own, unless they touch."""
    regions, count = label(labels, background=0, connectivity=2, return_num=True)
    classes = np.zeros(count + 1, np.int64)
    classes[regions] = class_ids[labels]
    return regions.astype(np.int32), classes


def _uniform(low: float, high: float) -> float:
    return low + (high - low) * float(torch.rand(()))


def _log_uniform(bounds: Range, rng: np.random.Generator) -> float:
    return math.exp(rng.uniform(math.log(bounds[0]), math.log(bounds[1])))
