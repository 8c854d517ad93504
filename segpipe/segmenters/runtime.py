"""How a loaded network is made to run on its device, and by what."""

from __future__ import annotations

from collections.abc import Callable

import torch

from segpipe.segmenters.frozen import Network, fold, freeze
from segpipe.spec import SegmentSpec

PlanesToMaps = Callable[[torch.Tensor], torch.Tensor]


def by_backend(network: torch.nn.Module, spec: SegmentSpec) -> PlanesToMaps:
    """A network from planes (N, 3, H, W) to one tensor, by the backend of the spec.

    Args:
        network: fp32, on the CPU, in eval mode; it is changed.

    Raises:
        SpecError: the backend is not installed.
    """
    match spec.backend:
        case "torch":
            return deploy(network, spec)
        case "compiled":
            return torch_compiled(network.to(spec.device), dtype_of(spec))
        case "openvino":
            from segpipe.segmenters.openvino_network import compile_network

            return compile_network(network, spec, torch.get_num_threads())


def deploy(network: Network, spec: SegmentSpec) -> Network:
    """The network on the device of the spec, in its precision, for inference only.

    Args:
        network: fp32, on the CPU, in eval mode; it is changed.
    """
    return freeze(network.to(spec.device).to(memory_format=torch.channels_last), dtype_of(spec))


def torch_compiled(network: torch.nn.Module, dtype: torch.dtype) -> PlanesToMaps:
    """Whole, by torch.compile; on a CPU weights become constants, packed as they are used.

    Args:
        network: from one tensor to another, on its device, in eval mode; it is changed.
        dtype: that it computes in.
    """
    on_cpu = next(network.parameters()).device.type == "cpu"
    network = fold(network).to(dtype).to(memory_format=torch.channels_last)
    run = torch.compile(network, options={"freezing": on_cpu})
    return lambda planes: run(planes.to(dtype))


def dtype_of(spec: SegmentSpec) -> torch.dtype:
    """What layers take and give in its precision."""
    return torch.bfloat16 if spec.precision == "bf16" else torch.float32
