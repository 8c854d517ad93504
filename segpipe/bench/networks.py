"""Networks as one may run them, and what the machine can compute at most; all of it is torch.

eager           the network as its library makes it
channels_last   the same, in the memory layout that convolutions want
traced          by TorchScript, and frozen there
frozen          as segpipe makes it ready: see `segmenters.frozen` and `segmenters.upsampling`
compiled        a U-Net as the backend `compiled` runs it; a detector by `torch.compile`
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import segmentation_models_pytorch as smp
import torch
from torch.utils.flop_counter import FlopCounterMode

from segpipe.errors import SpecError
from segpipe.segmenters.blockwise import for_cpus
from segpipe.segmenters.catalog import ResolvedModel
from segpipe.segmenters.detector_network import load_detector
from segpipe.segmenters.frozen import freeze
from segpipe.segmenters.runtime import torch_compiled
from segpipe.segmenters.unet import load_unet
from segpipe.segmenters.unet_network import build_unet
from segpipe.spec import Precision

PRODUCT_SIDE = {"cpu": 2048, "cuda": 8192}
"""Side of the matrices; a fast device needs more to be busy."""

CONVOLVED_IMAGES = {"cpu": 1, "cuda": 64}
CONVOLUTIONS = (128, 128), (256, 64)
"""Channels (in and out) and side of what is convolved; the quickest counts as the peak."""

RESNET34_UNET = "resnet34-unet"
"""Not a model with weights, but the network that U-Nets are compared by, with random ones."""

VARIANTS = ("eager", "channels_last", "traced", "frozen", "compiled")

Call = Callable[[], Any]
T = TypeVar("T")


def in_own_thread(threads: int, call: Callable[[], T]) -> T:
    """What `call` returns, made in a new thread that computes with so many, as in the pipeline."""

    def run() -> T:
        torch.set_num_threads(threads)
        return call()

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(run).result()


def load_network(model: ResolvedModel | None) -> torch.nn.Module:
    """The network of a model as its library makes it, fp32; None for `RESNET34_UNET`.

    Raises:
        SpecError: a model that is no U-Net or detector.
    """
    if model is None:
        unet = build_unet({"encoder": "resnet34", "outputs": 3}).eval()
        return unet.to(memory_format=torch.contiguous_format)
    spec, weights = model.spec, model.weights_path
    if weights is not None and spec.model.kind == "unet":
        return load_unet(spec.model.architecture, weights).to(memory_format=torch.contiguous_format)
    if weights is not None and spec.options.kind == "detector":
        detector: torch.nn.Module = load_detector(spec.model, spec.options, weights)
        return detector
    raise SpecError(f"model {spec.model.name!r} is of the kind {spec.model.kind}: no network")


def stack(planes: Sequence[npt.NDArray[np.float32]], device: str) -> torch.Tensor:
    """Images of one shape as a batch (N, 3, H, W)."""
    return torch.from_numpy(np.stack(planes)).to(device)


def count_flops(network: torch.nn.Module, planes: torch.Tensor) -> int:
    """Of a forward pass over (N, 3, H, W); what is no product or convolution is not counted."""
    detector = _is_detector(network)
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        network(list(planes) if detector else planes)
    return int(counter.get_total_flops())


def as_variant(
    network: torch.nn.Module, variant: str, precision: Precision, planes: torch.Tensor
) -> Call | None:
    """A forward pass over (N, 3, H, W) in one of `VARIANTS`; None where it cannot be.

    The network itself is changed: load another one for another variant.
    """
    device = planes.device.type
    detector = _is_detector(network)
    if variant != "eager":
        network = network.to(memory_format=torch.channels_last)
        planes = planes.contiguous(memory_format=torch.channels_last)
    given: Any = list(planes) if detector else planes
    if variant == "traced":
        if detector:
            return None  # Its control flow depends on what it finds.
        with torch.inference_mode(False), torch.no_grad(), _precision(precision, device):
            traced = torch.jit.trace(network, planes, check_trace=False)  # type: ignore[no-untyped-call]
            network = torch.jit.freeze(traced)
    if variant == "frozen":
        if isinstance(network, smp.Unet) and device == "cpu":
            network = for_cpus(network, _dtype(precision))
        network = freeze(network, _dtype(precision))
    forward: Callable[[Any], Any] = network
    if variant == "compiled":
        forward = torch.compile(network) if detector else torch_compiled(network, _dtype(precision))

    def run() -> Any:
        with torch.inference_mode(), _precision(precision, device):
            return forward(given)

    return _synchronous(run, device)


def product(precision: Precision, device: str) -> tuple[Call, int]:
    """A product of square matrices, and its operations."""
    side = PRODUCT_SIDE[device]
    left, right = (torch.rand(side, side, dtype=_dtype(precision), device=device) for _ in "ab")
    return _synchronous(lambda: left @ right, device), 2 * side**3


def convolutions(precision: Precision, device: str) -> list[tuple[Call, int]]:
    """3x3 convolutions in channels_last, and their operations."""
    return [_convolution(precision, device, *size) for size in CONVOLUTIONS]


def _convolution(precision: Precision, device: str, channels: int, side: int) -> tuple[Call, int]:
    images = CONVOLVED_IMAGES[device]
    layer = torch.nn.Conv2d(channels, channels, 3, padding=1, bias=False)
    layer = layer.to(device, _dtype(precision)).to(memory_format=torch.channels_last)
    planes = torch.rand(images, channels, side, side, dtype=_dtype(precision), device=device)
    planes = planes.contiguous(memory_format=torch.channels_last)

    def run() -> Any:
        with torch.inference_mode():
            return layer(planes)

    return _synchronous(run, device), 2 * images * channels * channels * 9 * side * side


def _synchronous(call: Call, device: str) -> Call:
    def run() -> Any:
        answer = call()
        if device == "cuda":
            torch.cuda.synchronize()
        return answer

    return run


@contextmanager
def _precision(precision: Precision, device: str) -> Iterator[None]:
    with torch.autocast(device, torch.bfloat16, enabled=precision == "bf16", cache_enabled=False):
        yield


def _dtype(precision: Precision) -> torch.dtype:
    return torch.bfloat16 if precision == "bf16" else torch.float32


def _is_detector(network: torch.nn.Module) -> bool:
    return hasattr(network, "roi_heads")
