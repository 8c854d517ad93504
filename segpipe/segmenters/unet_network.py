"""The U-Net (Ronneberger, Fischer, Brox, MICCAI 2015) with a published encoder.

The network is what a weights file's header says it is, built here and nowhere else; nothing is
downloaded, whatever the header says.
"""

from __future__ import annotations

from typing import Any, Literal

import segmentation_models_pytorch as smp
import torch
from pydantic import Field

from segpipe.segmenters.blockwise import BLOCK
from segpipe.spec import Frozen, Precision, parse

STRIDE = 32
"""Height and width of the input are multiples of this."""

INSTANCE_MAPS = ("foreground", "distance", "edge")
"""The output maps of a network for instances, in order; all three are logits."""


_LIBRARY_BYTES = 32 << 20
"""What the convolutions' library takes for itself, whatever the size of the image."""

_ENCODER_CHANNELS = 64
"""As much as the encoder takes, as channels at full resolution."""


_SKIPPED_CHANNELS = {
    "tf_efficientnet_lite0": 16 / 2**2 + 24 / 4**2 + 40 / 8**2,
    "resnet34": 64 / 2**2 + 64 / 4**2 + 128 / 8**2,
}
"""Of the connections at strides 2, 4 and 8, as channels at full resolution."""

_DEEP_LAYERS = 1.4
"""Times what is handed on: with what the layers at strides 8 to 32 hold."""

_BLOCK_PIXELS = (BLOCK + 2 * STRIDE) ** 2
"""Of a block, with the pixels that it sees around it."""


class UNetArchitecture(Frozen):
    """Arguments of the network's constructor.

    Attributes:
        encoder: a timm network by name; a closed list, since timm also takes names that download.
        decoder_channels: width of the decoder at strides 16, 8, 4, 2 and 1.
        outputs: number of output maps.
    """

    encoder: Literal["tf_efficientnet_lite0", "resnet34"] = "tf_efficientnet_lite0"
    decoder_channels: tuple[int, int, int, int, int] = (256, 128, 64, 32, 16)
    outputs: int = Field(ge=1, le=256)


def parse_architecture(values: dict[str, Any]) -> UNetArchitecture:
    """Validate the architecture of a header.

    Raises:
        SpecError: it is not a `UNetArchitecture`.
    """
    return parse(UNetArchitecture, values, "architecture")


def activation_bytes(
    architecture: UNetArchitecture, pixels: int, precision: Precision, blockwise: bool
) -> int:
    """Memory of a forward pass over one image of `pixels` on a CPU, never too low.

    It peaks in the decoder's last block, which holds its input twice and its output three times:
    with the default channels 390 to 580 bytes a pixel were measured (fp32; 225 to 300 in bf16).
    Block by block (`blockwise`) these are the pixels of a block: 300; and of the whole image the
    maps are held that are handed on: 67 (fp32; 47 in bf16; 103 and 60 for resnet34).
    """
    last_in, last_out = architecture.decoder_channels[3:]
    channels = max(_ENCODER_CHANNELS, 2 * last_in + 3 * last_out)
    sample = 4 if precision == "fp32" else 2
    at_once = min(pixels, _BLOCK_PIXELS) if blockwise else pixels
    samples = channels * at_once
    if at_once < pixels:
        samples += round(_handed_on(architecture) * pixels)
    ends = 4 * (3 + 3 * architecture.outputs)
    return _LIBRARY_BYTES + sample * samples + ends * pixels


def _handed_on(architecture: UNetArchitecture) -> float:
    """Channels at full resolution that the maps come to which one part hands on to another."""
    second, third = architecture.decoder_channels[1:3]
    decoder = second / 8**2 + third / 4**2
    return _DEEP_LAYERS * (_SKIPPED_CHANNELS[architecture.encoder] + decoder)


def build_unet(architecture: dict[str, Any]) -> torch.nn.Module:
    """A U-Net with random weights: (N, 3, H, W) float to (N, outputs, H, W) logits.

    H and W are multiples of `STRIDE`.

    Raises:
        SpecError: an architecture that is not a `UNetArchitecture`.
    """
    checked = parse_architecture(architecture)
    network: torch.nn.Module = smp.Unet(
        f"tu-{checked.encoder}",
        encoder_weights=None,
        decoder_channels=checked.decoder_channels,
        classes=checked.outputs,
    )
    return network.to(memory_format=torch.channels_last)
