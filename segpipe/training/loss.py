"""The loss of a network that draws instances: foreground, distance and touching edges."""

from __future__ import annotations

import torch
from torch.nn import functional

from segpipe.training.recipe import LossRecipe


def instance_loss(
    logits: torch.Tensor, targets: torch.Tensor, weights: LossRecipe
) -> dict[str, torch.Tensor]:
    """The weighted parts, whose sum is minimised.

    Args:
        logits: (N, 3, H, W) float32: foreground, distance, edge.
        targets: (N, 3, H, W) float32 in [0, 1], same order.

    Returns:
        Part -> scalar. The distance is an absolute error, half of it from inside objects, since
        most pixels are outside; the edge is a focal loss (Lin et al., ICCV 2017), since edges
        are rare.
    """
    foreground, distance, edge = logits.unbind(1)
    true_foreground, true_distance, true_edge = targets.unbind(1)
    error = (distance.sigmoid() - true_distance).abs()
    return {
        "foreground": weights.foreground * _cross_entropy(foreground, true_foreground).mean(),
        "dice": weights.dice * _dice_loss(foreground.sigmoid(), true_foreground),
        "distance": weights.distance
        * (_mean(error, true_foreground) + _mean(error, 1 - true_foreground))
        / 2,
        "edge": weights.edge * _focal(edge, true_edge),
    }


def _cross_entropy(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    return functional.binary_cross_entropy_with_logits(logits, target, reduction="none")


def _dice_loss(probability: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """One minus the soft Dice of each crop (Milletari et al., 3DV 2016); +1 for empty crops."""
    overlap = (probability * target).sum((1, 2))
    total = probability.sum((1, 2)) + target.sum((1, 2))
    return (1 - (2 * overlap + 1) / (total + 1)).mean()


def _mean(values: torch.Tensor, where: torch.Tensor) -> torch.Tensor:
    """Mean over the pixels of the batch where `where` is 1; 0 where there are none."""
    return (values * where).sum() / where.sum().clamp(min=1)


def _focal(logits: torch.Tensor, target: torch.Tensor, gamma: float = 2.0) -> torch.Tensor:
    """Focal cross-entropy with edge and other pixels in equal parts."""
    entropy = _cross_entropy(logits, target)
    focal = (1 - torch.exp(-entropy)) ** gamma * entropy
    return _mean(focal, target) + _mean(focal, 1 - target)
