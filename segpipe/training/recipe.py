"""A recipe: everything that decides what a training run gives, apart from the data."""

from __future__ import annotations

import tomllib
from importlib import resources
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from segpipe.errors import SpecError
from segpipe.segmenters.detector_network import DetectorArchitecture
from segpipe.segmenters.rcnn_network import RCNNArchitecture
from segpipe.segmenters.unet_network import UNetArchitecture
from segpipe.spec import Fraction, Frozen, Options, Preprocess, parse

Range = tuple[float, float]
Task = Literal["instances", "semantic", "boxes"]


class UNetRecipe(Frozen):
    """A U-Net and the weights of the parts of its loss.

    Attributes:
        task: `instances` learns foreground, distance and touching edges; `semantic` learns classes.
        foreground, dice, distance, edge: of `instance_loss`.
        cross_entropy, class_dice: of `semantic_loss`.
    """

    kind: Literal["unet"]
    task: Literal["instances", "semantic"] = "instances"
    architecture: UNetArchitecture
    foreground: float = Field(1.0, ge=0)
    dice: float = Field(1.0, ge=0)
    distance: float = Field(4.0, ge=0)
    edge: float = Field(1.0, ge=0)
    cross_entropy: float = Field(1.0, ge=0)
    class_dice: float = Field(1.0, ge=0)


class DetectorRecipe(Frozen):
    """A Mask R-CNN or Faster R-CNN, and how many of its proposals are learnt from.

    Attributes:
        rpn_batch, roi_batch: anchors and regions that are sampled per crop.
        proposals: regions per crop that the first stage hands on.
        min_object: objects of which a crop holds fewer pixels are not learnt.
    """

    kind: Literal["mask_rcnn", "faster_rcnn"]
    architecture: DetectorArchitecture
    rpn_batch: int = Field(256, ge=1)
    roi_batch: int = Field(64, ge=1)
    proposals: int = Field(500, ge=1)
    min_object: int = Field(12, ge=1)

    @property
    def task(self) -> Task:
        return "instances" if self.kind == "mask_rcnn" else "boxes"


class RCNNRecipe(Frozen):
    """An R-CNN, and the regions that are learnt from.

    Attributes:
        regions: sampled per crop.
        object_share: fraction of the regions that hold an object, where there are so many.
        moved: copies of each true box, each elsewhere, beside what selective search proposes.
        min_object: objects of which a crop holds fewer pixels are not learnt.
        box: weight of the boxes' loss against that of the classes.
    """

    kind: Literal["rcnn"]
    architecture: RCNNArchitecture = RCNNArchitecture()
    regions: int = Field(16, ge=1)
    object_share: Fraction = 0.5
    moved: int = Field(4, ge=0)
    min_object: int = Field(12, ge=1)
    box: float = Field(1.0, ge=0)

    @property
    def task(self) -> Task:
        return "boxes"


Network = Annotated[UNetRecipe | DetectorRecipe | RCNNRecipe, Field(discriminator="kind")]


class DataRecipe(Frozen):
    """What the folder of annotated images holds, and which images are seen how often.

    Attributes:
        name: what the data set is called, for the record.
        licence: under which its images, and so the weights, may be used.
        layout: `labels` is a folder with `images/`, `labels/` and, if there is more to say than
            that, `index.csv`; `coco` is a folder with `images/` and `annotations.json`.
        truth: the values of the label images number `objects`, or are `classes`.
        file: column of `index.csv` with the file's name, with or without suffix.
        group: column (or key of a COCO image) of what must not be in two splits at once, such as
            a patient; empty: every image is a group of its own.
        subgroup: column (or key) of what is reported apart, such as a kind of image.
        validation: fraction of the groups that is held out where there is no column `split`.
        crop: side of the square training crops, pixels.
        weights: share of the crops that each subgroup gets; empty: in proportion to its images.
        area_power: within a subgroup an image is drawn in proportion to its area to this power.
        focus: fraction of the crops that are sure to have an object at their middle.
        cache_bytes: decoded images that each loading process keeps in memory.
    """

    name: str
    licence: str
    layout: Literal["labels", "coco"] = "labels"
    truth: Literal["objects", "classes"] = "objects"
    file: str = "file"
    group: str = ""
    subgroup: str = ""
    validation: float = Field(0.2, gt=0, lt=1)
    crop: int = Field(256, ge=32, multiple_of=32)
    weights: dict[str, float] = Field(default_factory=dict)
    area_power: Fraction = 0.5
    focus: Fraction = 0.0
    cache_bytes: int = Field(4_000_000_000, ge=0)


class AugmentRecipe(Frozen):
    """How a crop is varied; a `Range` is drawn from uniformly, a probability is of using it.

    Attributes:
        scale: magnification, drawn log-uniformly.
        diameter: instead of `scale`: median diameter of the image's objects after magnification,
            pixels, drawn log-uniformly; the magnification stays within a factor of 4.
        stretch: ratio of the two axes' magnifications, log-uniform in [1 / stretch, stretch].
        orientation: `any` of the eight of a square, left and right `mirrored`, or `fixed`.
        elastic: probability of a smooth random deformation.
        gamma: exponent on intensities, drawn log-uniformly.
        gain, offset: the intensity becomes `gain * x + offset`.
        blur: sigma of a Gaussian, pixels.
        noise: standard deviation of white noise, in units of the image's range.
        tint: probability of other colours: channels exchanged, each with a gain of its own.
        grey: probability that a colour image becomes grey.
        invert: probability that bright and dark change places.
        empty: probability of a field without any object: noise alone.
    """

    scale: Range = (0.5, 2.0)
    diameter: Range | None = None
    stretch: float = Field(1.15, ge=1)
    orientation: Literal["any", "mirrored", "fixed"] = "any"
    elastic: Fraction = 0.0
    gamma: Range = (0.5, 2.0)
    gain: Range = (0.6, 1.6)
    offset: Range = (-0.1, 0.2)
    blur: Range = (0.3, 2.0)
    noise: Range = (0.005, 0.12)
    blur_probability: Fraction = 0.25
    noise_probability: Fraction = 0.3
    tint: Fraction = 0.0
    grey: Fraction = 0.0
    invert: Fraction = 0.0
    empty: Fraction = 0.0


class OptimiserRecipe(Frozen):
    """The schedule: linear warm-up, then one half cosine down to nothing.

    Attributes:
        kind: AdamW (Loshchilov and Hutter, ICLR 2019), or SGD with Nesterov momentum 0.9.
        steps: updates of the weights in all.
        batch: crops in one update.
        micro_batch: crops in one pass on one device; gradients add up to a batch. None: all.
        learning_rate: its peak.
        encoder_factor: the pretrained encoder's learning rate is this times the others'.
        warm_up: fraction of the steps until the peak.
        ema_decay: the published weights are an exponential moving average with this decay per step.
        precision: bf16 is autocast, for CUDA and CPUs with AVX-512 bf16; weights stay in fp32.
    """

    kind: Literal["adamw", "sgd"] = "adamw"
    steps: int = Field(ge=1)
    batch: int = Field(8, ge=1)
    micro_batch: int | None = Field(None, ge=1)
    learning_rate: float = Field(2e-3, gt=0)
    encoder_factor: Fraction = 0.25
    weight_decay: float = Field(1e-2, ge=0)
    warm_up: Fraction = 0.05
    ema_decay: Fraction = 0.999
    precision: Literal["fp32", "bf16"] = "fp32"
    clip_norm: float = Field(1.0, gt=0)


class ValidationRecipe(Frozen):
    """How the run is watched, and what is chosen on the validation images.

    Attributes:
        every: steps between two measurements.
        crops: validation crops (the same ones each time, not varied) that the loss is taken of.
        images: validation images that the metric is taken of while training; None: all of them.
        patience: measurements without a better metric after which training stops; None: never.
        tune: option -> values to try, one option after the other, when training is over; the
            best on all validation images go into the weights file.
    """

    every: int = Field(250, ge=1)
    crops: int = Field(64, ge=1)
    images: int | None = Field(None, ge=1)
    patience: int | None = Field(None, ge=1)
    tune: dict[str, list[float]] = Field(default_factory=dict)


class Recipe(Frozen):
    """What `segpipe train` reads; unknown keys are refused.

    Attributes:
        name: what the model will be called.
        licence: of the weights.
        notice: what whoever uses the weights has to know, such as limits of use.
        start: where the weights start: `imagenet` (the encoder), `none`, the name of a model with
            weights, or a weights file; what fits is kept, and what does not is named.
        start_sha256: of the file that `start` names; another one is refused. Empty: any.
    """

    name: str
    description: str
    licence: str
    notice: str = ""
    classes: tuple[str, ...] = Field(min_length=2, max_length=256)
    seed: int = Field(0, ge=0)
    start: str = "none"
    start_sha256: str = ""
    network: Network
    preprocess: Preprocess
    postprocess: Options
    data: DataRecipe
    augment: AugmentRecipe = AugmentRecipe()
    optimiser: OptimiserRecipe
    validation: ValidationRecipe = ValidationRecipe()

    @model_validator(mode="after")
    def _fits_together(self) -> Recipe:
        network = self.network
        if network.kind == "unet":
            wanted = 3 if network.task == "instances" else len(self.classes)
            if network.architecture.outputs != wanted:
                raise ValueError(
                    f"network.architecture.outputs must be {wanted} for {network.task}"
                )
        options = type(self.postprocess).model_fields
        if unknown := self.validation.tune.keys() - options:
            raise ValueError(f"validation.tune: no option {sorted(unknown)}; allowed: {[*options]}")
        return self


def read_recipe(path: Path) -> tuple[Recipe, str]:
    """A recipe and its text, which the weights file keeps.

    Args:
        path: a file, or the name of one of the recipes that come with segpipe.

    Raises:
        SpecError: it cannot be read, is not TOML, or has a wrong or unknown key.
    """
    shipped = shipped_recipes()
    if not path.exists() and str(path) in shipped:
        path = shipped[str(path)]
    try:
        text = path.read_text("utf-8")
        values = tomllib.loads(text)
    except OSError as error:
        raise SpecError(
            f"{path}: cannot be read: {error.strerror}; give a recipe's file, or one of the names "
            f"{', '.join(shipped)}"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SpecError(f"{path}: not a TOML file: {error}") from error
    return parse(Recipe, values, str(path)), text


def shipped_recipes() -> dict[str, Path]:
    """Name -> file of the recipes that come with segpipe."""
    folder = Path(str(resources.files("segpipe.training") / "recipes"))
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}
