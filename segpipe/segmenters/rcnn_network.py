"""The network of R-CNN (Girshick et al., CVPR 2014): each region is warped, and classified alone.

A light encoder takes the place of AlexNet. One softmax and one box regression, learnt together as
in Fast R-CNN (Girshick, ICCV 2015), take the place of the paper's support vector machines and its
regression afterwards; what makes R-CNN slow, a whole forward pass for every region, stays.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field
from torchvision.ops import roi_align

from segpipe.segmenters.light_backbone import STRIDES, light_features
from segpipe.segmenters.weights import fill, load_tensors
from segpipe.spec import Frozen, parse

OFFSET_SCALE = (0.1, 0.1, 0.2, 0.2)
"""About the standard deviation of x, y, log width and log height, so that all are learnt alike."""

LEVELS = 2
"""Features at strides 32, which tell what a region holds, and 16, which tell where it is."""

MAX_LOG_GROWTH = math.log(1000 / 16)
"""No box grows by more than this factor, whatever the network answers (torchvision's bound)."""


class RCNNArchitecture(Frozen):
    """Arguments of the network's constructor.

    Attributes:
        side: of the square that each region is warped to, pixels.
        context: share of that square, on every side, that shows what surrounds the region.
        width: of the layer between the encoder's features and the answers.
    """

    backbone: Literal["lite0"] = "lite0"
    side: int = Field(64, ge=32, le=224, multiple_of=32)
    context: float = Field(0.125, ge=0, lt=0.5)
    width: int = Field(256, ge=16, le=4096)


class RCNN(torch.nn.Module):
    """Images and regions to the class and box of each region."""

    def __init__(self, architecture: RCNNArchitecture, classes: int) -> None:
        super().__init__()
        self.side, self.context = architecture.side, architecture.context
        encoder: Any = light_features()
        self.encoder: torch.nn.Module = encoder
        channels = encoder.feature_info.channels()[-LEVELS:]
        cells = [(architecture.side // stride) ** 2 for stride in STRIDES[-LEVELS:]]
        features = sum(map(operator.mul, channels, cells))
        self.head = torch.nn.Sequential(
            torch.nn.Linear(features, architecture.width), torch.nn.ReLU(inplace=True)
        )
        self.classify = torch.nn.Linear(architecture.width, classes)
        self.locate = torch.nn.Linear(architecture.width, 4 * (classes - 1))

    def forward(
        self, planes: torch.Tensor, regions: Sequence[torch.Tensor]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """
        Args:
            planes: (N, 3, H, W), normalised.
            regions: for each image (R_i, 4) float32 x0, y0, x1, y1 in pixels.

        Returns:
            (R, C) logits and (R, C - 1, 4) offsets of all images' regions, float32, as `decode`
            takes them; there is no box of the background.
        """
        warped = warp(planes, regions, self.side, self.context)
        levels = self.encoder(warped)[-LEVELS:]
        features = self.head(torch.cat([level.flatten(1) for level in levels], dim=1))
        offsets = self.locate(features).float()
        return self.classify(features).float(), offsets.unflatten(1, (-1, 4))


def parse_architecture(values: dict[str, Any]) -> RCNNArchitecture:
    """Validate the architecture of a header.

    Raises:
        SpecError: it is not an `RCNNArchitecture`.
    """
    return parse(RCNNArchitecture, values, "architecture")


def build_rcnn(architecture: dict[str, Any], classes: int) -> RCNN:
    """The network with random weights; `classes` counts the background.

    Raises:
        SpecError: an architecture that is not an `RCNNArchitecture`.
    """
    network = RCNN(parse_architecture(architecture), classes)
    return network.to(memory_format=torch.channels_last)


def load_rcnn(architecture: dict[str, Any], classes: int, weights: Path) -> RCNN:
    """The network with the weights of a file, fp32, on the CPU, in eval mode.

    Raises:
        WeightsError: missing, unexpected or misshapen tensors; the first few are named.
    """
    network = build_rcnn(architecture, classes)
    fill(network, load_tensors(weights), weights)
    return network.eval()


def warp(
    planes: torch.Tensor, regions: Sequence[torch.Tensor], side: int, context: float
) -> torch.Tensor:
    """Every region with its surroundings, stretched to (R, 3, side, side), channels last.

    Bilinear, averaged where it shrinks; beyond the image there are zeros, the mean of what is
    normalised.
    """
    grown = [_grow(boxes, 1 / (1 - 2 * context)) for boxes in regions]
    warped: torch.Tensor = roi_align(planes.float(), grown, side, aligned=True)
    return warped.contiguous(memory_format=torch.channels_last)


def encode(regions: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """What the network has to answer so that `decode` gives the true boxes.

    Centres in units of the region's sides, sides as logarithms of ratios (appendix C of the paper).

    Args:
        regions, truth: (R, 4) x0, y0, x1, y1, sides above 0.
    """
    (centre, size), (true_centre, true_size) = _centre_size(regions), _centre_size(truth)
    offsets = torch.cat([(true_centre - centre) / size, (true_size / size).log()], dim=-1)
    return offsets / offsets.new_tensor(OFFSET_SCALE)


def decode(regions: torch.Tensor, offsets: torch.Tensor) -> torch.Tensor:
    """Boxes (..., 4) of regions (..., 4) and the network's offsets (..., 4)."""
    offsets = offsets * offsets.new_tensor(OFFSET_SCALE)
    centre, size = _centre_size(regions)
    centre = centre + offsets[..., :2] * size
    half = size * offsets[..., 2:].clamp(max=MAX_LOG_GROWTH).exp() / 2
    return torch.cat([centre - half, centre + half], dim=-1)


def _centre_size(boxes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    low, high = boxes[..., :2], boxes[..., 2:]
    return (low + high) / 2, high - low


def _grow(boxes: torch.Tensor, factor: float) -> torch.Tensor:
    centre, size = _centre_size(boxes)
    half = size * factor / 2
    return torch.cat([centre - half, centre + half], dim=1)
