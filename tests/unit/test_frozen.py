"""A network made ready for inference answers what it answered before."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping

import pytest
import segmentation_models_pytorch as smp
import torch
from torch import nn
from torchvision.models import detection
from torchvision.ops import FrozenBatchNorm2d

from segpipe.segmenters import blockwise
from segpipe.segmenters import frozen as frozen_networks
from segpipe.segmenters.blockwise import for_cpus
from segpipe.segmenters.frozen import freeze
from segpipe.segmenters.light_backbone import LightPyramid
from segpipe.segmenters.unet_network import build_unet

DECODER = [32, 16, 16, 8, 8]
NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "U-Net, lite0": lambda: build_unet({"outputs": 3, "decoder_channels": DECODER}),
    "U-Net, resnet34": lambda: build_unet(
        {"encoder": "resnet34", "outputs": 2, "decoder_channels": DECODER}
    ),
    "light pyramid": lambda: LightPyramid(32),
    "ResNet-50, version 1": lambda: stock(detection.maskrcnn_resnet50_fpn).backbone,
    "ResNet-50, version 2": lambda: stock(detection.maskrcnn_resnet50_fpn_v2).backbone,
}


def stock(make: Callable[..., nn.Module]) -> nn.Module:
    return make(weights=None, weights_backbone=None)


def stirred(network: nn.Module) -> nn.Module:
    """With statistics as training leaves them, so that a normalisation left out would show."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d | FrozenBatchNorm2d):
            with torch.no_grad():
                module.running_mean.normal_(0, 0.2)
                module.running_var.uniform_(0.5, 2)
                module.weight.uniform_(0.5, 1.5)
                module.bias.normal_(0, 0.2)
    return network.eval()


def answers(network: nn.Module, planes: torch.Tensor) -> list[torch.Tensor]:
    with torch.inference_mode():
        found = network(planes)
    return list(found.values()) if isinstance(found, Mapping) else [found]


def frozen_copy(network: nn.Module, dtype: torch.dtype) -> nn.Module:
    return freeze(copy.deepcopy(network), dtype)


def as_on_cpus(unet: nn.Module, dtype: torch.dtype) -> nn.Module:
    network = copy.deepcopy(unet)
    assert isinstance(network, smp.Unet)
    return freeze(for_cpus(network, dtype), dtype)


TYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
BOUNDS = pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 0.05)], ids=str
)

U_NETS = [name for name in NETWORKS if name.startswith("U-Net")]


@pytest.fixture(scope="module", params=U_NETS)
def unet(request: pytest.FixtureRequest) -> nn.Module:
    torch.manual_seed(0)
    return stirred(NETWORKS[request.param]())


@pytest.fixture(scope="module", params=NETWORKS)
def network(request: pytest.FixtureRequest) -> nn.Module:
    torch.manual_seed(0)
    return stirred(NETWORKS[request.param]())


@BOUNDS
def test_a_frozen_network_answers_the_same(
    network: nn.Module, dtype: torch.dtype, tolerance: float
) -> None:
    planes = torch.randn(2, 3, 64, 96)
    frozen = frozen_copy(network, dtype)
    for expected, found in zip(answers(network, planes), answers(frozen, planes), strict=True):
        assert (found - expected).norm() <= tolerance * expected.norm()


def test_nothing_is_left_to_normalise(network: nn.Module) -> None:
    frozen = frozen_copy(network, torch.float32)
    left = [m for m in frozen.modules() if isinstance(m, nn.BatchNorm2d | FrozenBatchNorm2d)]
    assert left == []


@TYPES
def test_batch_mates_change_no_bit(network: nn.Module, dtype: torch.dtype) -> None:
    check_batch_mates(frozen_copy(network, dtype), torch.randn(5, 3, 64, 64))


def check_batch_mates(network: nn.Module, planes: torch.Tensor) -> None:
    together = answers(network, planes)
    for index in range(len(planes)):
        alone = answers(network, planes[index : index + 1])
        for mine, all_of_them in zip(alone, together, strict=True):
            assert torch.equal(mine[0], all_of_them[index])


@BOUNDS
def test_a_unet_for_cpus_answers_the_same(
    unet: nn.Module, dtype: torch.dtype, tolerance: float
) -> None:
    planes = torch.randn(2, 3, 64, 96)
    (expected,) = answers(unet, planes)
    (found,) = answers(as_on_cpus(unet, dtype), planes)
    assert (found - expected).norm() <= tolerance * expected.norm()


@BOUNDS
def test_blocks_answer_as_the_whole_does(
    unet: nn.Module, dtype: torch.dtype, tolerance: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    planes = torch.randn(2, 3, 224, 352)
    network = as_on_cpus(unet, dtype)
    (expected,) = answers(network, planes)
    monkeypatch.setattr(blockwise, "BLOCK", 64)
    (found,) = answers(network, planes)
    assert (found - expected).norm() <= tolerance * expected.norm()


@pytest.mark.parametrize("block", [64, 1024], ids=["several blocks", "one block"])
@TYPES
def test_a_unet_for_cpus_gives_the_same_bits_whatever_batch_mates_are(
    unet: nn.Module, dtype: torch.dtype, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blockwise, "BLOCK", block)
    check_batch_mates(as_on_cpus(unet, dtype), torch.randn(5, 3, 96, 64))


def test_bfloat16_is_the_same_without_its_instructions(
    network: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    planes = torch.randn(1, 3, 64, 96)
    made = as_on_cpus if isinstance(network, smp.Unet) else frozen_copy
    native = answers(made(network, torch.bfloat16), planes)
    monkeypatch.setattr(frozen_networks, "_is_computed", lambda dtype: dtype == torch.float32)
    by_hand = answers(made(network, torch.bfloat16), planes)
    for expected, found in zip(native, by_hand, strict=True):
        assert found.dtype == expected.dtype
        assert (found - expected).norm() <= 0.02 * expected.norm()
