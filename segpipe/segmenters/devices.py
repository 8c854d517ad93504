"""What can compute here, and how a network is run on it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from segpipe.spec import SegmentSpec


def device_count() -> int:
    """CUDA devices that this process sees, at least 1."""
    import torch

    return max(1, torch.cuda.device_count())


def device_name() -> str:
    """The name that the first CUDA device's maker gave it, e.g. `NVIDIA H100`."""
    import torch

    return str(torch.cuda.get_device_name())


@contextmanager
def inference(spec: SegmentSpec) -> Iterator[None]:
    """Inside the block networks run without gradients, in the spec's precision, on all threads.

    OpenMP counts threads for each thread that calls it. One that has not set the count itself,
    like the pipeline's, would compute with that of the environment, which Dask presets to 1.
    """
    import torch

    torch.set_num_threads(torch.get_num_threads())
    bf16 = spec.precision == "bf16"
    with torch.inference_mode(), torch.autocast(spec.device, torch.bfloat16, enabled=bf16):
        yield
