"""What differs between kinds of networks when they are trained."""

from __future__ import annotations

from typing import Any, Protocol, assert_never

import torch

from segpipe.training.augment import Crop
from segpipe.training.recipe import Recipe

Item = Any
"""Tensors, or containers of tensors, that one crop is learnt from."""

Batch = Any


class Learner(Protocol):
    """A network, and what it learns from a crop; knows of no data set, schedule or log.

    Attributes:
        network: what is trained; its state is what the weights file holds.
        distances: whether `item` needs `Crop.distance`.
    """

    network: torch.nn.Module
    distances: bool

    def item(self, crop: Crop) -> Item:
        """What is learnt from one crop; called in the processes that load data."""
        ...

    def collate(self, items: list[Item]) -> Batch:
        """Items to a batch."""
        ...

    def losses(self, network: torch.nn.Module, batch: Batch) -> dict[str, torch.Tensor]:
        """The weighted parts of the loss, whose sum is minimised.

        Args:
            network: `self.network`, or a copy or wrapper of it. In training mode it learns; in
                eval mode nothing of it may change, and the losses are those of validation.
            batch: on the network's device.

        Returns:
            Part -> float32 scalar, finite for a batch without any object too.
        """
        ...


def build_learner(recipe: Recipe) -> Learner:
    """The learner of a recipe, with random weights; they depend on torch's seed."""
    match recipe.network.kind:
        case "unet":
            from segpipe.training.unet import UNetLearner

            return UNetLearner(recipe.network)
        case "mask_rcnn" | "faster_rcnn":
            from segpipe.training.detection import DetectionLearner

            return DetectionLearner(recipe)
        case "rcnn":
            from segpipe.training.rcnn import RCNNLearner

            return RCNNLearner(recipe)
        case kind:
            assert_never(kind)
