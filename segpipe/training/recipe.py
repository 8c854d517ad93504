"""A recipe: everything that decides what a training run gives, apart from the data."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Literal

from pydantic import Field

from segpipe.errors import SpecError
from segpipe.segmenters.unet_network import UNetArchitecture
from segpipe.spec import Fraction, Frozen, Preprocess, UNetOptions, parse

Range = tuple[float, float]


class DataRecipe(Frozen):
    """Which images are seen how often.

    Attributes:
        name: what the data set is called, for the record.
        licence: under which its images, and so the weights, may be used.
        crop: side of the square training crops, pixels.
        kind_weights: share of the crops that comes from each kind of image (column `kind`).
        area_power: within a kind an image is drawn in proportion to its area to this power.
    """

    name: str
    licence: str
    crop: int = Field(256, ge=32, multiple_of=32)
    kind_weights: dict[str, float]
    area_power: Fraction = 0.5


class AugmentRecipe(Frozen):
    """How a crop is varied; a `Range` is drawn from uniformly, a probability is of using it.

    Attributes:
        scale: magnification, drawn log-uniformly.
        stretch: ratio of the two axes' magnifications, log-uniform in [1 / stretch, stretch].
        gamma: exponent on intensities, drawn log-uniformly.
        gain, offset: the intensity becomes `gain * x + offset`.
        blur: sigma of a Gaussian, pixels.
        noise: standard deviation of white noise, in units of the image's range.
        tint: probability of another gain per channel.
        grey: probability that a colour image becomes grey.
        invert: probability that bright and dark change places.
        empty: probability of a field without any object: noise alone.
    """

    scale: Range = (0.5, 2.0)
    stretch: float = Field(1.15, ge=1)
    gamma: Range = (0.5, 2.0)
    gain: Range = (0.6, 1.6)
    offset: Range = (-0.1, 0.2)
    blur: Range = (0.3, 2.0)
    noise: Range = (0.005, 0.12)
    blur_probability: Fraction = 0.25
    noise_probability: Fraction = 0.3
    tint: Fraction = 0.1
    grey: Fraction = 0.2
    invert: Fraction = 0.05
    empty: Fraction = 0.01


class OptimiserRecipe(Frozen):
    """AdamW with one cosine cycle (linear warm-up, cosine decay to nothing).

    Attributes:
        steps: updates of the weights in all.
        batch: crops in one update.
        learning_rate: its peak, for the decoder.
        encoder_factor: the encoder's learning rate is this times the decoder's.
        warm_up: fraction of the steps until the peak.
        ema_decay: the published weights are an exponential moving average with this decay per step.
    """

    steps: int = Field(ge=1)
    batch: int = Field(8, ge=1)
    learning_rate: float = Field(2e-3, gt=0)
    encoder_factor: Fraction = 0.25
    weight_decay: float = Field(1e-2, ge=0)
    warm_up: Fraction = 0.05
    ema_decay: Fraction = 0.999
    precision: Literal["fp32", "bf16"] = "fp32"
    clip_norm: float = Field(1.0, gt=0)


class LossRecipe(Frozen):
    """Weights of the parts of the loss."""

    foreground: float = 1.0
    dice: float = 1.0
    distance: float = 4.0
    edge: float = 1.0


class Recipe(Frozen):
    """What `python -m segpipe.training` reads; unknown keys are refused."""

    name: str
    description: str
    licence: str
    classes: tuple[str, ...]
    seed: int = 0
    encoder_weights: Literal["none", "imagenet"] = "none"
    architecture: UNetArchitecture
    preprocess: Preprocess
    postprocess: UNetOptions = UNetOptions()
    data: DataRecipe
    augment: AugmentRecipe = AugmentRecipe()
    loss: LossRecipe = LossRecipe()
    optimiser: OptimiserRecipe


def read_recipe(path: Path) -> tuple[Recipe, str]:
    """A recipe and its text, which the weights file keeps.

    Raises:
        SpecError: it cannot be read, is not TOML, or has a wrong or unknown key.
    """
    try:
        text = path.read_text("utf-8")
        values = tomllib.loads(text)
    except OSError as error:
        raise SpecError(f"{path}: cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SpecError(f"{path}: not a TOML file: {error}") from error
    return parse(Recipe, values, str(path)), text
