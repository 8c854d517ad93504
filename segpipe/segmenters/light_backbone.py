"""A light feature pyramid: EfficientNet-Lite0's features, as many channels at every stride.

EfficientNet (Tan and Le, ICML 2019) in its Lite variant, and the pyramid of Lin et al., "Feature
pyramid networks for object detection" (CVPR 2017). Nothing is downloaded here.
"""

from __future__ import annotations

from collections import OrderedDict

import timm
import torch
from torchvision.ops import FeaturePyramidNetwork

ENCODER = "tf_efficientnet_lite0"
STRIDES = (4, 8, 16, 32)
"""Of the pyramid's levels."""

CHANNELS = (24, 40, 112, 320)
"""Of the encoder's features at `STRIDES`."""


class LightPyramid(torch.nn.Module):
    """(N, 3, H, W) to one (N, `out_channels`, H / stride, W / stride) for each of `STRIDES`.

    H and W are multiples of 32. The levels are named "0" to "3", as torchvision's detectors want.

    Attributes:
        encoder: its tensors are named as timm names those of the classifier.
    """

    def __init__(self, out_channels: int) -> None:
        super().__init__()
        self.out_channels = out_channels
        self.encoder = light_features()
        self.fpn = FeaturePyramidNetwork(list(CHANNELS), out_channels)

    def forward(self, planes: torch.Tensor) -> dict[str, torch.Tensor]:
        levels = OrderedDict((str(i), level) for i, level in enumerate(self.encoder(planes)))
        pyramid: dict[str, torch.Tensor] = self.fpn(levels)
        return pyramid


def light_features() -> torch.nn.Module:
    """The encoder with random weights: (N, 3, H, W) to a list of its features at `STRIDES`."""
    encoder: torch.nn.Module = timm.create_model(
        ENCODER, pretrained=False, features_only=True, out_indices=(1, 2, 3, 4)
    )
    return encoder
