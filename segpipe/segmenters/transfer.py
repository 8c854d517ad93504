"""Images to the device and answers back; on a GPU through pinned memory, without waiting."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from segpipe.segmenters.preprocess import Scalable


def to_device(batch: Sequence[Scalable], device: torch.device) -> torch.Tensor:
    """Send images of one shape as they were read, and scale them there.

    Returns:
        (N, 3, H, W) float32, channels_last; bit for bit what `to_planes` gives.
    """
    pixels = _send(torch.from_numpy(np.stack([one.pixels for one in batch])), device)
    gain = _send(_per_channel([one.gain for one in batch]), device)
    offset = _send(_per_channel([one.offset for one in batch]), device)
    # (N, H, W, C) is channels_last already; grey is repeated by the product.
    planes = (pixels.permute(0, 3, 1, 2).float() * gain).add_(offset)
    return planes.contiguous(memory_format=torch.channels_last)


def to_host(answers: torch.Tensor) -> npt.NDArray[np.float32]:
    """A float tensor as a contiguous float32 array in the memory of the host."""
    answers = answers.float().contiguous()
    if answers.device.type == "cpu":
        return answers.numpy()
    pinned = torch.empty(answers.shape, dtype=answers.dtype, pin_memory=True)
    pinned.copy_(answers, non_blocking=True)
    torch.cuda.current_stream(answers.device).synchronize()
    return pinned.numpy()


def _per_channel(values: Sequence[npt.NDArray[np.float32]]) -> torch.Tensor:
    return torch.from_numpy(np.stack(values))[:, :, None, None]


def _send(values: torch.Tensor, device: torch.device) -> torch.Tensor:
    if device.type == "cpu":
        return values
    return values.pin_memory().to(device, non_blocking=True)
