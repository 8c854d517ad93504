"""How a loaded network is made to run on its device."""

from __future__ import annotations

from collections.abc import Callable

import torch

from segpipe.segmenters.frozen import Network, freeze
from segpipe.spec import SegmentSpec


def compiled(network: torch.nn.Module, spec: SegmentSpec) -> Callable[[torch.Tensor], torch.Tensor]:
    """A network from planes (N, 3, H, W) to one tensor, by the backend of the spec.

    Args:
        network: fp32, on the CPU, in eval mode; it is changed.

    Raises:
        SpecError: the backend is not installed.
    """
    match spec.backend:
        case "torch":
            return deploy(network, spec)
        case "openvino":
            from segpipe.segmenters.openvino_network import compile_network

            return compile_network(network, spec, torch.get_num_threads())


def deploy(network: Network, spec: SegmentSpec) -> Network:
    """The network on the device of the spec, in its precision, for inference only.

    Args:
        network: fp32, on the CPU, in eval mode; it is changed.
    """
    dtype = torch.bfloat16 if spec.precision == "bf16" else torch.float32
    return freeze(network.to(spec.device).to(memory_format=torch.channels_last), dtype)
