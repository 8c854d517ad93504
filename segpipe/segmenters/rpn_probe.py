"""A look into a detector at work: what its region proposal network proposes, and how long it takes.

Ren, He, Girshick, Sun, "Faster R-CNN" (NeurIPS 2015).
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN


@dataclass(frozen=True, slots=True, eq=False)
class RPNCall:
    """One call of a region proposal network.

    Attributes:
        boxes: for each image (P, 4) float32 x0, y0, x1, y1 as shares of its width and height, best
            first.
        seconds: from the backbone's features to these boxes.
    """

    boxes: tuple[npt.NDArray[np.float32], ...]
    seconds: float


@contextmanager
def watch_rpn(network: GeneralizedRCNN) -> Iterator[list[RPNCall]]:
    """Inside the block every call of the network's first stage is added to the list."""
    calls: list[RPNCall] = []
    started: list[float] = []

    def begin(module: torch.nn.Module, given: tuple[Any, ...]) -> None:  # noqa: ARG001
        started.append(_now())

    def end(module: torch.nn.Module, given: tuple[Any, ...], answer: Any) -> None:  # noqa: ARG001
        seconds = _now() - started.pop()
        images, (proposals, _) = given[0], answer
        boxes = tuple(
            (boxes.cpu() / torch.tensor([width, height] * 2)).float().numpy()
            for boxes, (height, width) in zip(proposals, images.image_sizes, strict=True)
        )
        calls.append(RPNCall(boxes, seconds))

    hooks = [
        network.rpn.register_forward_pre_hook(begin),
        network.rpn.register_forward_hook(end),
    ]
    try:
        yield calls
    finally:
        for hook in hooks:
            hook.remove()


def _now() -> float:
    """Seconds, after the device has done what it was given."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()
