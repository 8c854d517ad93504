"""What can compute here."""

from __future__ import annotations


def device_count() -> int:
    """CUDA devices that this process sees, at least 1."""
    import torch

    return max(1, torch.cuda.device_count())


def device_name() -> str:
    """The name that the first CUDA device's maker gave it, e.g. `NVIDIA H100`."""
    import torch

    return str(torch.cuda.get_device_name())
