"""A network run by OpenVINO on a CPU: optional, for what PyTorch computes less quickly there."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from functools import partial
from types import ModuleType

import torch
from timm.layers.conv2d_same import Conv2dSame
from torch.nn import functional

from segpipe.segmenters.devices import require_openvino
from segpipe.segmenters.unet_network import STRIDE
from segpipe.spec import SegmentSpec

_TELEMETRY = "openvino_telemetry"

_EXAMPLE_SIDE = 2 * STRIDE
"""Of the image that the network is traced with, pixels; its answers hold for any size."""


def compile_network(
    network: torch.nn.Module, spec: SegmentSpec, threads: int
) -> Callable[[torch.Tensor], torch.Tensor]:
    """Convert a network in this process; nothing is read from files, nothing is sent.

    Args:
        network: (N, 3, H, W) to one tensor, H and W multiples of `STRIDE`, in eval mode, on the
            CPU; it is changed.
        spec: its precision decides how convolutions are computed. What has no 8-bit form stays
            fp32 there, so that the answers do not depend on whether the CPU has bfloat16.
        threads: that compute one batch.

    Returns:
        From (N, 3, H, W) float32 to float32, one call at a time; each image's answer has the same
        bits whatever its batch-mates are.

    Raises:
        SpecError: the package is not installed.
    """
    openvino = _import_openvino()
    _pad_by_constants(network)
    with warnings.catch_warnings():  # OpenVINO traces with what PyTorch calls deprecated
        warnings.simplefilter("ignore", FutureWarning)
        model = openvino.convert_model(
            network,
            example_input=torch.zeros(1, 3, _EXAMPLE_SIDE, _EXAMPLE_SIDE),
            input=[-1, 3, -1, -1],
        )
    settings = {
        "INFERENCE_PRECISION_HINT": "bf16" if spec.precision == "bf16" else "f32",
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "ENABLE_CPU_PINNING": False,  # workers side by side would all sit on the first cores
    }
    request = openvino.Core().compile_model(model, "CPU", settings).create_infer_request()

    def run(planes: torch.Tensor) -> torch.Tensor:
        answer = request.infer([planes.contiguous().numpy()], share_inputs=True)
        return torch.from_numpy(answer[0])

    return run


def _pad_by_constants(network: torch.nn.Module) -> None:
    """TensorFlow's "same" padding depends on the side only where that is odd, which none is.

    As constants it becomes a part of the convolution.
    """
    for module in network.modules():
        if isinstance(module, Conv2dSame):
            module.forward = partial(_padded, module)  # type: ignore[method-assign]


def _padded(convolution: Conv2dSame, planes: torch.Tensor) -> torch.Tensor:
    (height, width), (down, right) = convolution.kernel_size, convolution.stride
    y, x = height - down, width - right
    planes = functional.pad(planes, (x // 2, x - x // 2, y // 2, y - y // 2))
    weight, bias = convolution.weight, convolution.bias
    answer: torch.Tensor = functional.conv2d(
        planes, weight, bias, convolution.stride, 0, convolution.dilation, convolution.groups
    )
    return answer


def _import_openvino() -> ModuleType:
    """The package, with its own stand-in for the package that reports each use of it.

    By default the import alone sends a message. Where the reporting package is not installed,
    OpenVINO does without; here it is not found either.
    """
    require_openvino()
    known = _TELEMETRY in sys.modules
    before = sys.modules.get(_TELEMETRY)
    sys.modules[_TELEMETRY] = None  # type: ignore[assignment]
    try:
        import openvino
    finally:
        if known:
            sys.modules[_TELEMETRY] = before  # type: ignore[assignment]
        else:
            del sys.modules[_TELEMETRY]
    assert isinstance(openvino, ModuleType)
    return openvino
