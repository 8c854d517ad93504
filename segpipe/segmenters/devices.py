"""What can compute here, and how a network is run on it."""

from __future__ import annotations

import ctypes
import os
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from shutil import which

from segpipe.errors import SpecError
from segpipe.segmenters.base import DeviceMemoryError
from segpipe.spec import SegmentSpec

_OUT_OF_MEMORY = (
    "not enough memory",
    "can't allocate memory",
    "out of memory",
    "bad_alloc",
    "alloc_failed",
    "could not create a primitive",
)
"""What the errors of torch and of its libraries say that are not `torch.OutOfMemoryError`. The last
is all that the library for convolutions on a CPU says where the memory ends."""


def device_count() -> int:
    """CUDA devices that this process sees and torch can use.

    Where there is no driver, torch is not asked: it takes seconds to load.
    """
    if not _has_driver():
        return 0
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def device_name() -> str:
    """The name that the first CUDA device's maker gave it, e.g. `NVIDIA H100`."""
    import torch

    return str(torch.cuda.get_device_name())


def _has_driver() -> bool:
    """Whether NVIDIA's driver is there, which torch looks for in the same way, or AMD's."""
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return Path("/dev/kfd").exists()
    return True


def require_compiler() -> None:
    """Say early what is missing.

    Raises:
        SpecError: there is no C++ compiler, which torch.compile needs.
    """
    compiler = os.environ.get("CXX", "g++")
    if which(compiler) is None:
        raise SpecError(
            f"backend = 'compiled' needs a C++ compiler, and there is no {compiler!r}; install "
            "g++, or name another one in CXX"
        )


def has_openvino() -> bool:
    """Whether the package `openvino`, which is optional, is installed."""
    return find_spec("openvino") is not None


def require_openvino() -> None:
    """Say early what is missing.

    Raises:
        SpecError: the package `openvino` is not installed.
    """
    if not has_openvino():
        raise SpecError("backend = 'openvino' needs OpenVINO: pip install 'segpipe[openvino]'")


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


@contextmanager
def device_memory(spec: SegmentSpec, what: str) -> Iterator[None]:
    """Inside the block, that the device's memory is too small becomes a `DeviceMemoryError`.

    By then all that the block held is free again, so that a smaller batch can be tried at once.

    Args:
        what: was tried; the message begins with it.
    """
    import torch

    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not _is_out_of_memory(error):
            raise
        said = str(error) or type(error).__name__
        message = f"{what} does not fit: {said.splitlines()[0]}"
        # Each frame that the error came through holds the tensors it was working on.
        traceback.clear_frames(error.__traceback__)
    else:
        return
    if spec.device == "cuda":
        torch.cuda.empty_cache()
    raise DeviceMemoryError(message)


def _is_out_of_memory(error: MemoryError | RuntimeError) -> bool:
    import torch

    known = isinstance(error, MemoryError | torch.OutOfMemoryError)
    return known or any(sign in str(error).lower() for sign in _OUT_OF_MEMORY)
