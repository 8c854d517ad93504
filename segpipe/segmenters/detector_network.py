"""Mask R-CNN (He et al., ICCV 2017) and Faster R-CNN (Ren et al., NeurIPS 2015) of torchvision.

ResNet-50 with a feature pyramid; version 2 has the changes of Li et al., "Benchmarking detection
transfer learning with vision transformers" (2021). Nothing is downloaded here.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field
from torchvision.models import detection
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN
from torchvision.ops import FrozenBatchNorm2d

from segpipe.errors import SpecError, WeightsError
from segpipe.segmenters.weights import load_tensors
from segpipe.spec import DetectorOptions, Frozen, ModelSpec, parse

PROPOSALS = 1000
"""torchvision's number of proposals; more where more detections are wanted."""


class DetectorArchitecture(Frozen):
    """Arguments of the network's constructor.

    Attributes:
        version: 1 is that of the papers, with frozen batch normalisation; 2 has more convolutions
            in its heads, and batch normalisation.
        norm_eps: epsilon of version 1's normalisation; the published weights want 0.
    """

    backbone: Literal["resnet50_fpn"] = "resnet50_fpn"
    version: Literal[1, 2]
    norm_eps: float = Field(1e-5, ge=0, le=1)


class InFloat32(torch.nn.Module):
    """A module whose answers are float32, whatever precision it works in.

    torchvision takes anchors and boxes in the dtype of the features and of the offsets; in
    bfloat16, with its 8 bits, a coordinate near 800 is a multiple of 4 pixels.
    """

    def __init__(self, module: torch.nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, *args: Any) -> Any:
        return _float32(self.module(*args))


def load_detector(model: ModelSpec, options: DetectorOptions, weights: Path) -> GeneralizedRCNN:
    """The network with the weights of a file, on the CPU, in eval mode.

    Its images are to be normalised already: unlike torchvision's own, it does not do that.

    Raises:
        SpecError: an architecture that is not a `DetectorArchitecture`.
        WeightsError: a file that cannot be read, or missing, unexpected or misshapen tensors.
    """
    network = build_detector(model, options)
    try:
        network.load_state_dict(_state(weights))
    except RuntimeError as error:
        raise WeightsError(f"{weights}: not the tensors of its architecture: {error}") from None
    return in_float32(network).eval()


def build_detector(model: ModelSpec, options: DetectorOptions) -> GeneralizedRCNN:
    """The network with random weights and the limits of `options`."""
    architecture = parse(DetectorArchitecture, dict(model.architecture), "architecture")
    proposals = max(PROPOSALS, options.max_detections)
    arguments = {
        "num_classes": len(model.classes),
        "min_size": options.min_size,
        "max_size": options.max_size,
        "image_mean": (0.0, 0.0, 0.0),
        "image_std": (1.0, 1.0, 1.0),
        "rpn_pre_nms_top_n_test": proposals,
        "rpn_post_nms_top_n_test": proposals,
        "box_score_thresh": options.score_threshold,
        "box_nms_thresh": options.nms_threshold,
        "box_detections_per_img": options.max_detections,
    }
    masks = model.kind == "mask_rcnn"
    if architecture.version == 2:
        make = detection.maskrcnn_resnet50_fpn_v2 if masks else detection.fasterrcnn_resnet50_fpn_v2
        return make(weights=None, weights_backbone=None, **arguments)
    backbone = resnet_fpn_backbone(
        backbone_name="resnet50",
        weights=None,
        norm_layer=partial(FrozenBatchNorm2d, eps=architecture.norm_eps),
    )
    return (detection.MaskRCNN if masks else detection.FasterRCNN)(backbone, **arguments)


def in_float32(network: GeneralizedRCNN) -> GeneralizedRCNN:
    """Wrap the parts whose answers become coordinates, scores and masks; changes `network`."""
    network.backbone = InFloat32(network.backbone)
    network.rpn.head = InFloat32(network.rpn.head)
    heads = network.roi_heads
    heads.box_predictor = InFloat32(heads.box_predictor)
    if heads.mask_predictor is not None:
        heads.mask_predictor = InFloat32(heads.mask_predictor)
    return network


def _float32(value: Any) -> Any:
    match value:
        case torch.Tensor():
            return value.float()
        case dict():
            return {name: _float32(part) for name, part in value.items()}
        case _:
            return type(value)(_float32(part) for part in value)


def _state(weights: Path) -> dict[str, torch.Tensor]:
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
