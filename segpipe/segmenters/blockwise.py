"""A U-Net on a CPU, in memory that grows slowly with the image.

Its maps are largest in its first and last layers, where a pixel depends on few around it. There
the network is run block by block: what these layers compute on the way stays small, and is in the
cache when the next one needs it. Maps of the whole image are those that are handed on: to the skip
connections, to the deep layers, and to the caller.

`segpipe bench large` measures it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import astuple
from typing import NamedTuple

import segmentation_models_pytorch as smp
import torch
from timm.models import FeatureListNet
from timm.models.efficientnet import EfficientNetFeatures
from torch import nn

from segpipe.geometry import Box
from segpipe.planning.tiles import Tiling, plan_tiles
from segpipe.segmenters.upsampling import join_upsampling

BLOCK = 1024
"""Side of the largest block, pixels of the image; smaller images are one."""

Maps = torch.Tensor
"""(N, C, H, W), channels_last."""

Layers = Callable[..., Sequence[Maps]]


class _Encoder(NamedTuple):
    """
    Attributes:
        stages: five, each of which halves height and width.
        reach: how far the first two see together, and the third, in pixels of what they give.
    """

    stages: Sequence[nn.Module]
    reach: tuple[int, int]


_DECODER_REACH = 2
"""Of the third block of the decoder, and of the last two with the head, in pixels of what they
take."""


def for_cpus(network: smp.Unet, dtype: torch.dtype) -> BlockwiseUNet:
    """A U-Net in eval mode as CPUs run it; `freeze` does the rest.

    Args:
        network: of `build_unet`, fp32; it is changed.
        dtype: as of `freeze`.
    """
    join_upsampling(network, dtype)
    return BlockwiseUNet(network)


class BlockwiseUNet(nn.Module):
    """The same answers as those of the network, but for their last bits.

    Args:
        network: of `build_unet`, in eval mode; its layers become this one's.
    """

    def __init__(self, network: smp.Unet) -> None:
        super().__init__()
        stages, self._reach = _taken_apart(network.encoder.model)
        self.encoder = nn.ModuleList(stages)
        self.decoder = network.decoder.blocks
        self.head = network.segmentation_head

    def forward(self, planes: torch.Tensor) -> torch.Tensor:
        """(N, 3, H, W) to logits (N, outputs, H, W); H and W are multiples of 32."""

        def blocks(stride: int, reach: int) -> Tiling:
            height, width = planes.shape[2:]
            return plan_tiles((height, width), BLOCK, stride * reach, stride)

        # Each map is let go as soon as nothing needs it any more.
        first, third = blocks(4, self._reach[0]), blocks(8, self._reach[1])
        halved, quartered = _by_block(self._first_two, [planes], first)
        (eighth,) = _by_block(self._third, [quartered], third)
        sixteenth = self.encoder[3](eighth)
        maps = self._decode(0, self.encoder[4](sixteenth), sixteenth)
        del sixteenth
        maps = self._decode(1, maps, eighth)
        del eighth
        third, last = blocks(8, _DECODER_REACH), blocks(4, _DECODER_REACH)
        (maps,) = _by_block(self._third_last, [maps, quartered], third)
        del quartered
        (logits,) = _by_block(self._last_two, [maps, halved], last, torch.contiguous_format)
        return logits

    def _first_two(self, planes: Maps) -> Sequence[Maps]:
        halved = self.encoder[0](planes)
        return halved, self.encoder[1](halved)

    def _third(self, quartered: Maps) -> Sequence[Maps]:
        return (self.encoder[2](quartered),)

    def _third_last(self, maps: Maps, quartered: Maps) -> Sequence[Maps]:
        return (self._decode(2, maps, quartered),)

    def _last_two(self, maps: Maps, halved: Maps) -> Sequence[Maps]:
        maps = self._decode(3, maps, halved)
        return (self.head(self._decode(4, maps)),)

    def _decode(self, number: int, maps: Maps, skipped: Maps | None = None) -> Maps:
        height, width = (2 * side for side in maps.shape[2:])
        decoded: Maps = self.decoder[number](maps, height, width, skipped)
        return decoded


def _taken_apart(model: nn.Module) -> _Encoder:
    part = model.get_submodule
    match model:
        case EfficientNetFeatures():
            blocks = list(part("blocks").children())
            stages = [
                nn.Sequential(part("conv_stem"), part("bn1"), blocks[0]),
                blocks[1],
                blocks[2],
                nn.Sequential(*blocks[3:5]),
                nn.Sequential(*blocks[5:]),
            ]
            return _Encoder(stages, reach=(3, 3))
        case FeatureListNet():
            stages = [
                nn.Sequential(part("conv1"), part("bn1"), part("act1")),
                nn.Sequential(part("maxpool"), part("layer1")),
                *map(part, ("layer2", "layer3", "layer4")),
            ]
            return _Encoder(stages, reach=(8, 8))
        case _:
            raise TypeError(f"not an encoder of a U-Net: {type(model).__name__}")


def _by_block(
    layers: Layers,
    maps: Sequence[Maps],
    blocks: Tiling,
    layout: torch.memory_format = torch.channels_last,
) -> Sequence[Maps]:
    """
    Args:
        layers: from maps of a part of the image to others.
        maps: that they take, of the whole image.
        blocks: of the image, grown by what the layers see.
        layout: of the others.
    """
    if len(blocks) == 1:
        return layers(*maps)
    found: list[Maps] = []
    for block in blocks:
        seen = (_cut(one, block.grown, blocks.shape) for one in maps)
        parts = layers(*(one.contiguous(memory_format=torch.channels_last) for one in seen))
        found = found or [_room(one, block.grown, blocks.shape, layout) for one in parts]
        core = block.core.shift(-block.grown.y0, -block.grown.x0)
        for whole, part in zip(found, parts, strict=True):
            inner = _cut(part, core, (block.grown.height, block.grown.width))
            _cut(whole, block.core, blocks.shape).copy_(inner)
    return found


def _cut(maps: Maps, box: Box, shape: tuple[int, int]) -> Maps:
    """A view of the box, in pixels of the image whose shape this is."""
    stride = shape[0] // maps.shape[2]
    rows, columns = Box(*(place // stride for place in astuple(box))).slices
    return maps[:, :, rows, columns]


def _room(part: Maps, box: Box, shape: tuple[int, int], layout: torch.memory_format) -> Maps:
    """For a map of the whole image of this shape, like that of the box."""
    stride = box.height // part.shape[2]
    size = (*part.shape[:2], shape[0] // stride, shape[1] // stride)
    return torch.empty(size, dtype=part.dtype, memory_format=layout)
