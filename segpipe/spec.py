"""What a person asks for (`RunSpec`) and what can change a result (`SegmentSpec`).

`SegmentSpec` is a `RunSpec` after its model is resolved: every default is written out, and its
digest, the `spec_id`, names the results. Where results go, how many workers make them and how
often they are tried is not part of it. Unknown keys are refused everywhere.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import BaseModel, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

from segpipe.clusters import Workforce
from segpipe.errors import SpecError
from segpipe.frozen import Frozen as Frozen  # of which others make specs of their own
from segpipe.frozen import allowed_keys
from segpipe.records import digest

SCHEMA_VERSION = 1
"""Changes when a column of `schema.py` changes its meaning."""

ALGORITHM_VERSION = 1
"""Changes when the same spec and image may give another result."""

T = TypeVar("T", bound=BaseModel)

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
DeviceClass = Literal["cpu", "cuda"]
Precision = Literal["fp32", "bf16", "int8"]
Backend = Literal["torch", "compiled", "openvino"]


class PercentileScaling(Frozen):
    """Each image's own percentiles become 0 and 1 (over all channels together); not clipped."""

    kind: Literal["percentile"] = "percentile"
    low: float = Field(1.0, ge=0, lt=50)
    high: float = Field(99.8, gt=50, le=100)


class RangeScaling(Frozen):
    """The range of uint8 and uint16 becomes 0..1; other pixel types use their own extremes."""

    kind: Literal["range"] = "range"


Scaling = PercentileScaling | RangeScaling


class Preprocess(Frozen):
    """How pixels become what a network takes; the same function serves training and inference.

    After scaling, each of three channels (grey is repeated) becomes `(x - mean) / std`.
    """

    scaling: Annotated[Scaling, Field(discriminator="kind")]
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)


class ClassicalOptions(Frozen):
    """Threshold and watershed on a feature of the pixels; needs no weights."""

    kind: Literal["classical"] = "classical"
    feature: Literal["intensity", "colour", "density", "texture"] = "intensity"
    threshold: Literal["otsu", "li", "triangle"] = "otsu"
    polarity: Literal["auto", "bright", "dark"] = "auto"
    window: int = Field(15, ge=3, le=1001, description="side for density and texture, pixels")
    smoothing: float = Field(1.0, ge=0, le=100, description="Gaussian sigma, pixels")
    min_area: int = Field(30, ge=1, description="pixels")
    min_distance: int = Field(5, ge=1, le=1000, description="pixels between two object centres")


class UNetOptions(Frozen):
    """From the maps of a U-Net to objects; the defaults come from the weights file.

    Attributes:
        object_diameter: objects are looked at in this size, pixels: where those that a first look
            finds are much larger or smaller (by more than the square root of 2), the image is
            looked at again, at half or double size. 0: never. For instances only.
        max_magnified_pixels: a double-sized image has no more pixels than this.
    """

    kind: Literal["unet"] = "unet"
    foreground_threshold: Fraction = 0.5
    min_depth: Fraction = Field(0.2, description="a shallower dip of the distance splits nothing")
    edge_weight: float = Field(0.0, ge=0, le=10)
    min_area: int = Field(16, ge=1, description="pixels")
    object_diameter: float = Field(0.0, ge=0, le=1000)
    max_magnified_pixels: int = Field(4096 * 4096, ge=1)


class DetectorOptions(Frozen):
    """Mask R-CNN and Faster R-CNN, with the limits that torchvision hides."""

    kind: Literal["detector"] = "detector"
    score_threshold: Fraction = 0.5
    nms_threshold: Fraction = 0.5
    mask_threshold: Fraction = 0.5
    max_detections: int = Field(300, ge=1, le=65535)
    min_size: int = Field(800, ge=32, le=8192, description="shorter side after resizing, pixels")
    max_size: int = Field(1333, ge=32, le=8192, description="longer side after resizing, pixels")


class RCNNOptions(Frozen):
    """R-CNN: which regions selective search proposes, and which of them are objects."""

    kind: Literal["rcnn"] = "rcnn"
    mode: Literal["single", "fast", "quality"] = "fast"
    min_region: int = Field(20, ge=1, description="of the first segmentation, pixels")
    search_side: int = Field(
        1024, ge=32, le=2048, description="longer side, pixels; larger images are shrunk for search"
    )
    min_side: int = Field(8, ge=1, description="of a proposal, pixels")
    max_proposals: int = Field(2000, ge=1, le=65535)
    score_threshold: Fraction = 0.5
    nms_threshold: Fraction = 0.3
    max_detections: int = Field(300, ge=1, le=65535)


class TruthOptions(Frozen):
    """Of a truth that was imported: nothing to choose."""

    kind: Literal["truth"] = "truth"


Options = Annotated[
    ClassicalOptions | UNetOptions | DetectorOptions | RCNNOptions | TruthOptions,
    Field(discriminator="kind"),
]

_TRUTH_NAME = re.compile(r"truth(-[a-z0-9-]+)?")


class Limits(Frozen):
    """What one image may cost; beyond it the image fails with a reason, and the run goes on."""

    max_pixels: int = Field(4096 * 4096, ge=1, description="the tile budget: height x width")
    max_file_bytes: int = Field(1 << 30, ge=1)
    decode_seconds: float = Field(30.0, gt=0)


HALOS = 3
"""A part has at least so many halos, one of them on either side of its core."""


class TileOptions(Frozen):
    """How an image with more than `limits.max_pixels` is looked at, part by part.

    Attributes:
        side: of what is looked at at a time, pixels, its halo included; where a U-Net looks at an
            image in double size, half of that. None for what suits the model.
        halo: how far a part sees beyond the pixels that it answers for; more than the longest side
            of an object, which else nobody sees whole. None: of each image by its own objects.
        magnification: at which a detector looks at every part, whatever its shape: pixels of what
            its network sees for one of the image. None for what suits the model. U-Nets choose
            theirs by the objects.
        max_image_pixels: an image with more is refused.
    """

    side: int | None = Field(None, ge=128, le=16384, multiple_of=32)
    halo: int | None = Field(None, ge=32, le=4096, multiple_of=32)
    magnification: float | None = Field(None, ge=1 / 64, le=16)
    max_image_pixels: int = Field(1 << 31, ge=1)


class Tiles(Frozen):
    """`TileOptions` with every default written out; for models that look at parts.

    Attributes:
        magnification: of a detector; None for other models.
    """

    side: int
    halo: int | None
    max_image_pixels: int
    magnification: float | None = None

    @model_validator(mode="after")
    def _leaves_a_core(self) -> Self:
        if self.side < HALOS * (self.halo or 0):
            raise ValueError(
                f"side {self.side} with a halo of {self.halo}: a side is at least three halos"
            )
        return self


class ModelSpec(Frozen):
    """A model, resolved: architecture + weights + classes + how to use them.

    Attributes:
        name: as in `segpipe models`, or the file's stem. `truth`, and names that begin with
            `truth-`, are those of a truth that was imported, and of nothing else.
        kind: which segmenter runs it.
        weights_sha256: of the weights file; None where there are no weights. Of a truth, of its
            files.
        architecture: arguments of the network's constructor, plain JSON.
        classes: names by class id; entry 0 is the background.
    """

    name: str
    kind: Literal["classical", "unet", "mask_rcnn", "faster_rcnn", "rcnn", "truth"]
    task: Literal["instances", "semantic", "boxes"] = "instances"
    weights_sha256: str | None = None
    architecture: dict[str, Any] = Field({})
    classes: tuple[str, ...] = ("background", "object")
    preprocess: Preprocess | None = None
    licence: str = ""

    @model_validator(mode="after")
    def _is_named_as_what_it_is(self) -> Self:
        if (self.kind == "truth") != is_truth(self.name):
            raise ValueError(
                f"{self.name!r}: a truth is named `truth`, or `truth-` and lowercase letters, "
                "digits and dashes; and no model is"
            )
        return self


def is_truth(model: str) -> bool:
    """Whether that is the name of a truth that was imported."""
    return _TRUTH_NAME.fullmatch(model) is not None


MAX_LARGE_FILE_BYTES = 1 << 40
"""Of a file that is read by region, and never whole."""


class SegmentSpec(Frozen):
    """All that can change a result, and nothing else."""

    model: ModelSpec
    options: Options
    limits: Limits = Limits()
    tiles: Tiles | None = Field(None, description="None: this model looks at whole images only")
    batch_images: int = Field(1, ge=1, description="images of one shape in a forward pass")
    batch_pixels: int | None = Field(None, ge=1, description="together, unless it is one image")
    device: DeviceClass = "cpu"
    precision: Precision = "fp32"
    backend: Backend = "torch"
    schema_version: int = SCHEMA_VERSION
    algorithm_version: int = ALGORITHM_VERSION

    @property
    def spec_id(self) -> str:
        """64 hex digits: results with the same `spec_id` are interchangeable."""
        return digest("spec", self.model_dump(mode="json"))

    @property
    def decoding(self) -> Limits:
        """What reading one image may cost: more where it is cut into tiles, and read by region."""
        if self.tiles is None or self.tiles.max_image_pixels <= self.limits.max_pixels:
            return self.limits
        more = {"max_pixels": self.tiles.max_image_pixels, "max_file_bytes": MAX_LARGE_FILE_BYTES}
        return self.limits.model_copy(update=more)

    def batch_of(self, shape: tuple[int, int]) -> int:
        """Images of `shape` (H, W) in a forward pass, at most."""
        height, width = shape
        fitting = (self.batch_pixels or height * width * self.batch_images) // (height * width)
        return max(1, min(self.batch_images, fitting))


class Night(Frozen):
    """What a nightly run does beside the segmenting; none of it changes a result.

    Attributes:
        partition_chunks: chunks in a partition; a larger night is cut into several, each a flow
            run with a plan and a record of its own.
        compare_nights: earlier runs that a night is compared with, at most.
        stall_minutes: an alarm is raised when no chunk was committed for so long.
        wait_hours: for another run that does the same work, before the night gives up.
        notify: Prefect notification blocks that are told of the morning and of alarms, as
            `slack-webhook/lab`; what they need to log in lies in the block, never here.
        notify_on: `always`, or only if something is the matter.
    """

    partition_chunks: int = Field(10_000, ge=1, le=1_000_000)
    compare_nights: int = Field(14, ge=1, le=365)
    stall_minutes: float = Field(30.0, gt=0, le=100_000)
    wait_hours: float = Field(12.0, ge=0, le=1000)
    notify: tuple[str, ...] = ()
    notify_on: Literal["always", "alarm"] = "always"


class RunSpec(Workforce):
    """One run, as a person asks for it; also the content of a `--config` file.

    `Workforce` has the keys that say who does the work.

    Attributes:
        source: a folder (recursive), a glob, an image, a manifest (.txt, .csv, .parquet), or an
            archive (zip, tar); or an address, `s3://BUCKET/KEY`, `gs://` or `az://`, of a prefix
            or of one object that is one of these.
        store: folder of the store, made where it does not exist.
        model: a name from `segpipe models`, or a weights file.
        options: overrides of the model's options, e.g. `{"score_threshold": 0.7}`.
        tiles: how images over `limits.max_pixels` are cut.
        chunk_images: images in a chunk, the unit of work, storage, commit and retry.
        batch_images: images of one shape in a forward pass; None for what suits the model, the
            device and the size of the image.
        precision: `auto` is bf16 where the device is quick at it and the weights file says that the
            model's metrics hold in it, else fp32. int8 is for OpenVINO, and for a weights file of
            `segpipe quantize`.
        backend: what computes the network: PyTorch as it is; compiled, for U-Nets, which takes
            seconds for each size of image and pays in long runs; or OpenVINO, for U-Nets on a CPU.
        max_failed: the run's exit code is 3 when a larger fraction of its images failed.
        retry: do nothing but the images that failed before under this spec.
        verify_content: tell what is done by the sha256 of each file, and not by its size and time:
            reads the whole collection.
        night: what a nightly run (`flows/nightly.py`) does beside; `segpipe run` leaves it alone.
    """

    source: str
    store: str
    model: str = "unet-nuclei"
    options: dict[str, Any] = Field({})
    limits: Limits = Limits()
    tiles: TileOptions = TileOptions()
    chunk_images: int = Field(64, ge=1, le=4096)
    batch_images: int | None = Field(None, ge=1, le=256)
    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["auto", "fp32", "bf16", "int8"] = "auto"
    backend: Backend = "torch"
    max_failed: Fraction = 0.1
    retry: bool = False
    verify_content: bool = False
    night: Night = Night()


def load_config(path: Path) -> dict[str, Any]:
    """Read a TOML configuration.

    Raises:
        SpecError: it cannot be read, is larger than 1 MB, or is not TOML.
    """
    try:
        if path.stat().st_size > 1_000_000:
            raise SpecError(f"{path}: larger than 1,000,000 bytes; this is no configuration")
        return tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise SpecError(f"{path}: cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SpecError(f"{path}: not a TOML file: {error}") from error


def parse(model: type[T], values: dict[str, Any], where: str) -> T:
    """Validate `values` as `model`.

    Raises:
        SpecError: names each bad key, its value and what is allowed, on one line each.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        problems = error.errors(include_url=False)
        raise SpecError("\n".join(f"{where}: {_told(model, each)}" for each in problems)) from None


def _told(model: type[BaseModel], problem: ErrorDetails) -> str:
    key = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        return f"unknown key {key!r}; allowed: {allowed_keys(model, problem['loc'])}"
    text = problem["msg"].removeprefix("Value error, ")
    if isinstance(problem["input"], dict):  # of a whole table, and what it lacks
        return f"{key}: {text}" if key else text
    return f"{key} = {problem['input']!r:.80}: {text}"
