"""The U-Net (Ronneberger, Fischer, Brox, MICCAI 2015) with a published encoder.

The network is what a weights file's header says it is, built here and nowhere else; nothing is
downloaded, whatever the header says.
"""

from __future__ import annotations

from typing import Any, Literal

import segmentation_models_pytorch as smp
import torch
from pydantic import Field

from segpipe.spec import Frozen, parse

STRIDE = 32
"""Height and width of the input are multiples of this."""

INSTANCE_MAPS = ("foreground", "distance", "edge")
"""The output maps of a network for instances, in order; all three are logits."""


class UNetArchitecture(Frozen):
    """Arguments of the network's constructor.

    Attributes:
        encoder: a timm network by name; a closed list, since timm also takes names that download.
        decoder_channels: width of the decoder at strides 16, 8, 4, 2 and 1.
        outputs: number of output maps.
    """

    encoder: Literal["tf_efficientnet_lite0"] = "tf_efficientnet_lite0"
    decoder_channels: tuple[int, int, int, int, int] = (256, 128, 64, 32, 16)
    outputs: int = Field(ge=1, le=256)


def build_unet(architecture: dict[str, Any]) -> torch.nn.Module:
    """A U-Net with random weights: (N, 3, H, W) float to (N, outputs, H, W) logits.

    H and W are multiples of `STRIDE`.

    Raises:
        SpecError: an architecture that is not a `UNetArchitecture`.
    """
    checked = parse(UNetArchitecture, architecture, "architecture")
    network: torch.nn.Module = smp.Unet(
        f"tu-{checked.encoder}",
        encoder_weights=None,
        decoder_channels=checked.decoder_channels,
        classes=checked.outputs,
    )
    return network.to(memory_format=torch.channels_last)
