"""Eight-bit convolutions: ranges found on images, and a network that rounds as they say.

What enters a convolution, and its weights, are rounded to 8 bits (Jacob et al., CVPR 2018). Each
input channel has a step of its own, which is multiplied into the weights (SmoothQuant, Xiao et al.,
ICML 2023, with their exponent of 1/2), since those of a U-Net's skip connections differ much; each
output channel has a step of its own for its weights. The first and the last convolution stay as
they are, as in DoReFa-Net (Zhou et al., 2016): rounded too, they cost `unet-nuclei` 0.004 of its
AP at IoU 0.5.

The network stays one of PyTorch, which computes the same in fp32 as a runtime does in integers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import TypeVar

import torch
from torch import nn
from torch.nn.utils import parametrize

from segpipe.errors import WeightsError

Network = TypeVar("Network", bound=nn.Module)

PREFIX = "input_range."
"""Begins the names of the ranges among the tensors of a weights file."""

CLIPPED = 1e-3
"""Fraction of the pixels of an image that may lie beyond either end of a channel's range."""

_SMALLEST = 1e-6


@contextmanager
def recorded_ranges(network: nn.Module) -> Iterator[dict[str, torch.Tensor]]:
    """Inside the block, what enters each inner convolution is watched.

    Args:
        network: as `quantise` takes it.

    Yields:
        Name of the convolution -> (2, C) float32: the lowest and the highest value of each input
        channel so far, without the outermost `CLIPPED` of each image.
    """
    ranges: dict[str, torch.Tensor] = {}
    hooks = [
        module.register_forward_pre_hook(partial(_record, ranges, name))
        for name, module in _inner_convolutions(network)
    ]
    try:
        yield ranges
    finally:
        for hook in hooks:
            hook.remove()


def quantise(network: Network, ranges: Mapping[str, torch.Tensor]) -> Network:
    """Round what enters each inner convolution and its weights, in place.

    Args:
        network: of `nn.Conv2d`, in eval mode.
        ranges: as `recorded_ranges` gave them.

    Raises:
        WeightsError: not one range, of the right size, for each convolution.
    """
    convolutions = dict(_inner_convolutions(network))
    if convolutions.keys() != ranges.keys():
        odd = sorted(convolutions.keys() ^ ranges.keys())
        raise WeightsError(f"input ranges and convolutions differ: {', '.join(odd[:3])}")
    for name, convolution in convolutions.items():
        assert isinstance(convolution, nn.Conv2d)
        if ranges[name].shape != (2, convolution.in_channels):
            raise WeightsError(
                f"input range of {name}: {tuple(ranges[name].shape)}, not"
                f" {(2, convolution.in_channels)}"
            )
        _quantise(convolution, ranges[name])
    return network


def split_ranges(
    tensors: Mapping[str, torch.Tensor],
) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """The tensors of a weights file: the network's own, and the ranges by convolution."""
    own = {name: tensor for name, tensor in tensors.items() if not name.startswith(PREFIX)}
    ranges = {
        name.removeprefix(PREFIX): tensor
        for name, tensor in tensors.items()
        if name.startswith(PREFIX)
    }
    return own, ranges


def _inner_convolutions(network: nn.Module) -> list[tuple[str, nn.Module]]:
    """All but the first and the last."""
    found = []
    for name, module in network.named_modules():
        weight = getattr(module, "weight", None)
        if isinstance(weight, torch.Tensor) and weight.dim() == 4:
            found.append((name, module))
    return found[1:-1]


def _record(
    ranges: dict[str, torch.Tensor], name: str, _: nn.Module, inputs: tuple[torch.Tensor]
) -> None:
    for image in inputs[0].float().flatten(2):
        beyond = max(1, round(CLIPPED * image.shape[1]))
        low = -(-image).topk(beyond, dim=1).values[:, -1]
        high = image.topk(beyond, dim=1).values[:, -1]
        if name in ranges:
            low, high = torch.minimum(low, ranges[name][0]), torch.maximum(high, ranges[name][1])
        ranges[name] = torch.stack([low, high])


def _quantise(convolution: nn.Conv2d, extent: torch.Tensor) -> None:
    low, high = extent
    signed = bool((low < 0).any())
    limits = (-127, 127) if signed else (0, 255)
    largest = torch.maximum(-low, high).clamp(min=_SMALLEST)
    step = (largest * largest.max()).sqrt() / limits[1]
    per_input = step.view(1, -1, 1, 1)
    if convolution.groups > 1:  # depthwise: an output channel has one input
        multiplied = step.repeat_interleave(convolution.out_channels // len(step))
        rounded = _RoundedWeight(convolution.weight, multiplied.view(-1, 1, 1, 1))
    else:
        rounded = _RoundedWeight(convolution.weight, per_input)
    convolution.register_forward_pre_hook(partial(_round_input, 1 / per_input, limits))
    parametrize.register_parametrization(convolution, "weight", rounded)


def _round_input(
    gain: torch.Tensor, limits: tuple[int, int], _: nn.Module, inputs: tuple[torch.Tensor]
) -> tuple[torch.Tensor]:
    return (torch.fake_quantize_per_tensor_affine(inputs[0] * gain, 1.0, 0, *limits),)


class _RoundedWeight(nn.Module):
    """(O, I, H, W) weights, times the steps of what they are multiplied with, in 255 steps."""

    gain: torch.Tensor
    scale: torch.Tensor
    zero: torch.Tensor

    def __init__(self, weight: torch.Tensor, gain: torch.Tensor) -> None:
        super().__init__()
        largest = (weight.detach() * gain).abs().amax((1, 2, 3)).clamp(min=_SMALLEST)
        self.register_buffer("gain", gain)
        self.register_buffer("scale", largest / 127)
        self.register_buffer("zero", torch.zeros(len(largest), dtype=torch.int32))

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        return torch.fake_quantize_per_channel_affine(
            weight * self.gain, self.scale, self.zero, 0, -127, 127
        )
