"""Mask R-CNN (He et al., ICCV 2017) and Faster R-CNN (Ren et al., NeurIPS 2015) of torchvision.

With one of two backbones: ResNet-50 with a feature pyramid, whose weights for COCO are published
(version 2 has the changes of Li et al., "Benchmarking detection transfer learning with vision
transformers", 2021), or a light one for many small objects. Nothing is downloaded here.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torchvision.models import detection
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.ops import FrozenBatchNorm2d, MultiScaleRoIAlign

from segpipe.errors import SpecError, WeightsError
from segpipe.segmenters.light_backbone import STRIDES, LightPyramid
from segpipe.segmenters.weights import fill, load_tensors
from segpipe.spec import DetectorOptions, Frozen, ModelSpec, parse

PROPOSALS = 1000
"""torchvision's number of proposals; more where many detections are wanted."""

PROPOSALS_PER_DETECTION = 2
"""An object gets several proposals. Of 672 nuclei in one image 569 were found with 1000 proposals,
605 with 2000, and 606 with 4000."""

BOX_GRID = 7
MASK_GRID = 14
"""Samples per side of a region for its box and class, and for its mask, which gets twice that."""

_LIBRARY_BYTES = 200 << 20
_RESIZED_BYTES = 400
"""Of a forward pass: whatever the image's size, and for each pixel of the resized image."""

_RESNET_CHANNELS = 256
"""Of torchvision's pyramid, and of the heads on it."""

Side = Annotated[int, Field(ge=4, le=2048)]
Ratio = Annotated[float, Field(ge=0.1, le=10)]
Channels = Annotated[int, Field(ge=16, le=512)]


class ResNetArchitecture(Frozen):
    """torchvision's own networks.

    Attributes:
        version: 1 is that of the papers, with frozen batch normalisation; 2 has more convolutions
            in its heads, and batch normalisation.
        norm_eps: epsilon of version 1's normalisation; the published weights want 0.
    """

    backbone: Literal["resnet50_fpn"] = "resnet50_fpn"
    version: Literal[1, 2]
    norm_eps: float = Field(1e-5, ge=0, le=1)


class LightArchitecture(Frozen):
    """A `LightPyramid` with heads of few channels, for images with hundreds of small objects.

    Attributes:
        fpn_channels: of every level of the pyramid.
        anchor_sizes: square root of an anchor's area, in pixels of the resized image, for each of
            the pyramid's levels.
        aspect_ratios: height over width; each size comes in all of them.
        box_channels: width of the two layers between a region's features and its class and box.
        mask_channels: of each convolution between a region's features and its mask.
    """

    backbone: Literal["lite0_fpn"]
    fpn_channels: int = Field(128, ge=16, le=256)
    anchor_sizes: tuple[Side, Side, Side, Side] = (16, 32, 64, 128)
    aspect_ratios: tuple[Ratio, ...] = Field((0.5, 1.0, 2.0), min_length=1, max_length=8)
    box_channels: int = Field(256, ge=16, le=2048)
    mask_channels: tuple[Channels, ...] = Field((128, 128), min_length=1, max_length=8)


DetectorArchitecture = Annotated[
    ResNetArchitecture | LightArchitecture, Field(discriminator="backbone")
]
"""Arguments of the network's constructor."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How much of each image is learnt from; the defaults are torchvision's.

    Attributes:
        anchors: of which the proposals' losses are taken.
        proposals: that training hands from the first stage to the second.
        regions: of them, of which the second stage's losses are taken.
    """

    anchors: int = 256
    proposals: int = 2000
    regions: int = 512


def load_detector(model: ModelSpec, options: DetectorOptions, weights: Path) -> GeneralizedRCNN:
    """The network with the weights of a file, fp32, on the CPU, in eval mode.

    Its images are to be normalised already: unlike torchvision's own, it does not do that.

    Raises:
        SpecError: an architecture that is not a `DetectorArchitecture`.
        WeightsError: a file that cannot be read, or missing, unexpected or misshapen tensors.
    """
    network = build_detector(model, options)
    fill(network, read_state(weights), weights)
    return network.eval()


def activation_bytes(model: ModelSpec, options: DetectorOptions, pixels: int) -> int:
    """Memory of a forward pass over one image on a CPU, never too low.

    Args:
        pixels: of the resized image.

    By the resized image, the proposals' features, and the masks of as many detections as are
    allowed. Measured with all of them: 0.4 to 0.8 GB for torchvision's networks with their own
    limits, 0.8 to 1.0 GB for a light one with 1000 detections.
    """
    architecture = parse_architecture(model.architecture)
    if isinstance(architecture, LightArchitecture):
        channels, mask_channels = architecture.fpn_channels, max(architecture.mask_channels)
    else:
        channels = mask_channels = _RESNET_CHANNELS
    regions = _proposals(options) * channels * BOX_GRID**2 * 4 * 2
    masks = options.max_detections * mask_channels * (2 * MASK_GRID) ** 2 * 6
    if model.kind == "faster_rcnn":
        masks = 0
    return _LIBRARY_BYTES + pixels * _RESIZED_BYTES + regions + masks


def build_detector(
    model: ModelSpec, options: DetectorOptions, sampling: Sampling | None = None
) -> GeneralizedRCNN:
    """The network with random weights and the limits of `options`.

    What becomes coordinates, scores and masks is float32 whatever precision it works in.

    Args:
        sampling: for training.

    Raises:
        SpecError: an architecture that is not a `DetectorArchitecture`.
    """
    architecture = parse_architecture(model.architecture)
    masks = model.kind == "mask_rcnn"
    limits = _limits(options, sampling or Sampling())
    if isinstance(architecture, LightArchitecture):
        network = _light(architecture, len(model.classes), masks, limits)
    else:
        network = _resnet(architecture, len(model.classes), masks, limits)
    _answer_in_float32(network)
    return network


def parse_architecture(values: dict[str, Any]) -> ResNetArchitecture | LightArchitecture:
    """Validate the architecture of a header; without a backbone it is that of torchvision.

    Raises:
        SpecError: no such backbone, or a wrong or unknown key.
    """
    match values.get("backbone", "resnet50_fpn"):
        case "resnet50_fpn":
            return parse(ResNetArchitecture, values, "architecture")
        case "lite0_fpn":
            return parse(LightArchitecture, values, "architecture")
        case other:
            raise SpecError(
                f"architecture: backbone = {other!r:.80}; allowed: 'resnet50_fpn', 'lite0_fpn'"
            )


def _limits(options: DetectorOptions, sampling: Sampling) -> dict[str, Any]:
    """The arguments of torchvision that change no tensor.

    It does not normalise images, and resizes them for inference only.
    """
    proposals = _proposals(options)
    return {
        "min_size": options.min_size,
        "max_size": options.max_size,
        "_skip_resize": True,
        "image_mean": (0.0, 0.0, 0.0),
        "image_std": (1.0, 1.0, 1.0),
        "rpn_pre_nms_top_n_train": sampling.proposals,
        "rpn_post_nms_top_n_train": sampling.proposals,
        "rpn_pre_nms_top_n_test": proposals,
        "rpn_post_nms_top_n_test": proposals,
        "rpn_batch_size_per_image": sampling.anchors,
        "box_batch_size_per_image": sampling.regions,
        "box_score_thresh": options.score_threshold,
        "box_nms_thresh": options.nms_threshold,
        "box_detections_per_img": options.max_detections,
    }


def _proposals(options: DetectorOptions) -> int:
    return max(PROPOSALS, PROPOSALS_PER_DETECTION * options.max_detections)


def _resnet(
    architecture: ResNetArchitecture, classes: int, masks: bool, limits: dict[str, Any]
) -> GeneralizedRCNN:
    if architecture.version == 2:
        make = detection.maskrcnn_resnet50_fpn_v2 if masks else detection.fasterrcnn_resnet50_fpn_v2
        return make(weights=None, weights_backbone=None, num_classes=classes, **limits)
    backbone = resnet_fpn_backbone(
        backbone_name="resnet50",
        weights=None,
        norm_layer=partial(FrozenBatchNorm2d, eps=architecture.norm_eps),
    )
    return (detection.MaskRCNN if masks else detection.FasterRCNN)(
        backbone, num_classes=classes, **limits
    )


def _light(
    architecture: LightArchitecture, classes: int, masks: bool, limits: dict[str, Any]
) -> GeneralizedRCNN:
    channels, levels = architecture.fpn_channels, [str(i) for i in range(len(STRIDES))]
    width = architecture.box_channels
    parts = {
        "rpn_anchor_generator": AnchorGenerator(
            tuple((size,) for size in architecture.anchor_sizes),
            (architecture.aspect_ratios,) * len(STRIDES),
        ),
        "box_roi_pool": MultiScaleRoIAlign(levels, BOX_GRID, sampling_ratio=2),
        "box_head": TwoMLPHead(channels * BOX_GRID**2, width),
        "box_predictor": FastRCNNPredictor(width, classes),
    }
    backbone = LightPyramid(channels)
    if not masks:
        return detection.FasterRCNN(backbone, **parts, **limits)
    last = architecture.mask_channels[-1]
    mask_predictor = MaskRCNNPredictor(last, last, classes)
    # torchvision's start is made for many classes; with two it gives logits of tens.
    torch.nn.init.normal_(mask_predictor.mask_fcn_logits.weight, std=0.01)
    return detection.MaskRCNN(
        backbone,
        **parts,
        mask_roi_pool=MultiScaleRoIAlign(levels, MASK_GRID, sampling_ratio=1),
        mask_head=MaskRCNNHeads(channels, architecture.mask_channels, dilation=1),
        mask_predictor=mask_predictor,
        **limits,
    )


def _answer_in_float32(network: GeneralizedRCNN) -> None:
    """torchvision takes anchors and boxes in the dtype of the features and of the offsets.

    In bfloat16, with its 8 bits, a coordinate near 800 is a multiple of 4 pixels.
    """
    heads = network.roi_heads
    for part in (network.backbone, network.rpn.head, heads.box_predictor, heads.mask_predictor):
        if part is not None:
            part.register_forward_hook(_answer)


def _answer(module: torch.nn.Module, given: object, answer: Any) -> Any:  # noqa: ARG001
    return _float32(answer)


def _float32(value: Any) -> Any:
    match value:
        case torch.Tensor():
            return value.float()
        case dict():
            return {name: _float32(part) for name, part in value.items()}
        case _:
            return type(value)(_float32(part) for part in value)


def read_state(weights: Path) -> dict[str, torch.Tensor]:
    """Tensors by name, from our own format or from torchvision's published one."""
    if weights.suffix == ".safetensors":
        return load_tensors(weights)
    try:
        state = torch.load(weights, map_location="cpu", weights_only=True)
    except Exception as error:  # the unpickler raises whatever a damaged file makes it raise
        raise WeightsError(f"{weights}: cannot be read as weights: {error}") from error
    if not isinstance(state, dict):
        raise SpecError(f"{weights}: holds no tensors by name")
    return state
