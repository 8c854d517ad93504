"""How a loaded network is made to run on its device."""

from __future__ import annotations

import torch

from segpipe.segmenters.frozen import Network, freeze
from segpipe.spec import SegmentSpec


def deploy(network: Network, spec: SegmentSpec) -> Network:
    """The network on the device of the spec, in its precision, for inference only.

    Args:
        network: fp32, on the CPU, in eval mode; it is changed.
    """
    dtype = torch.bfloat16 if spec.precision == "bf16" else torch.float32
    return freeze(network.to(spec.device).to(memory_format=torch.channels_last), dtype)
