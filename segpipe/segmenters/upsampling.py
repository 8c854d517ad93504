"""Doubling an image and convolving it, as one transposed convolution.

A block of the decoder repeats each pixel in both directions and convolves what it gets with 3 x 3
weights. These meet four pixels that differ, not nine: so a transposed convolution, whose 4 x 4
weights are sums of those, gives the same with 4/9 of the products, and the doubled image never is
in memory (Shi et al., "Is the deconvolution layer the same as a convolutional layer?", 2016).

For CPUs; `freeze` does the rest. `segpipe bench forward` measures it.
"""

from __future__ import annotations

import segmentation_models_pytorch as smp
import torch
from segmentation_models_pytorch.decoders.unet.decoder import UnetDecoderBlock
from torch import nn

from segpipe.segmenters.frozen import Arithmetic, fold

_SUMS = ((0, 0, 1), (0, 1, 1), (1, 1, 0), (1, 0, 0))
"""Along one axis: which of the three weights add up in each of the four."""

_ONCE, _TWICE = [1, 1], [2, 2]


def join_upsampling(network: smp.Unet, dtype: torch.dtype) -> None:
    """Rewrite the decoder of a U-Net in eval mode in place; it cannot be trained any more.

    Args:
        network: fp32, on the CPU; of `build_unet`.
        dtype: as of `freeze`.
    """
    fold(network)
    skipped = [*network.encoder.out_channels[-2:0:-1], 0]
    network.decoder.blocks = nn.ModuleList(
        JoinedBlock(block, channels, dtype)
        for block, channels in zip(network.decoder.blocks, skipped, strict=True)
    )


class JoinedBlock(nn.Module):
    """A block of the decoder: the same answers, but for their last bits.

    Args:
        block: which doubles by repeating pixels; its normalisation is folded.
        skipped: channels that come from the encoder; 0 for none.
        dtype: of what it takes and gives.
    """

    def __init__(self, block: UnetDecoderBlock, skipped: int, dtype: torch.dtype) -> None:
        super().__init__()
        convolution, norm, activation = block.conv1
        assert isinstance(convolution, nn.Conv2d)
        assert convolution.bias is not None
        assert isinstance(norm, nn.Identity)
        assert isinstance(activation, nn.ReLU)
        assert block.interpolation_mode == "nearest"
        weight = convolution.weight.detach()
        doubled = weight.shape[1] - skipped
        self._arithmetic = arithmetic = Arithmetic(dtype)
        self.weight = arithmetic.constant(_transposed(weight[:, :doubled]))
        self.bias = arithmetic.constant(convolution.bias)
        self.skip_weight = arithmetic.constant(weight[:, doubled:]) if skipped else None
        self.conv2 = block.conv2

    def forward(
        self,
        feature_map: torch.Tensor,
        _height: int,
        _width: int,
        skip_connection: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """(N, C, H, W), and (N, S, 2 H, 2 W) of the encoder, to (N, out, 2 H, 2 W).

        Which size is wanted is known: twice as high and wide, since all sides are multiples of
        the network's stride.
        """
        last = "relu" if skip_connection is None else "none"
        feature_map = self._arithmetic.enter(feature_map)
        # One by one: how oneDNN adds up in here depends on how many there are.
        doubled = [self._doubled(one, last) for one in torch.split(feature_map, 1)]
        found = doubled[0] if len(doubled) == 1 else torch.cat(doubled)
        if skip_connection is not None:
            found = torch.ops.mkldnn._convolution_pointwise_.binary(
                found, self._arithmetic.enter(skip_connection), self.skip_weight, None,
                _ONCE, _ONCE, _ONCE, 1, "add", 1.0, "relu", [], "",
            )  # fmt: skip
        second: torch.Tensor = self.conv2(self._arithmetic.leave(found))
        return second

    def _doubled(self, planes: torch.Tensor, activation: str) -> torch.Tensor:
        doubled: torch.Tensor = torch.ops.mkldnn._convolution_transpose_pointwise(
            planes, self.weight, self.bias, _ONCE, [0, 0], _TWICE, _ONCE, 1, activation, [], ""
        )
        return doubled


def _transposed(weight: torch.Tensor) -> torch.Tensor:
    """(O, I, 3, 3) to (I, O, 4, 4), of stride 2 with one pixel of padding."""
    sums = torch.tensor(_SUMS, dtype=torch.float64)
    return torch.einsum("yv,oivw,xw->ioyx", sums, weight.double(), sums).float()
