"""What a U-Net learns: three maps that tell instances apart, or the class of each pixel."""

from __future__ import annotations

import torch
from torch.nn import functional
from torch.utils.data import default_collate

from segpipe.segmenters.unet_network import build_unet
from segpipe.training.augment import Crop
from segpipe.training.recipe import UNetRecipe
from segpipe.training.targets import touching_edges

Batch = tuple[torch.Tensor, torch.Tensor]


class UNetLearner:
    """Planes (N, 3, S, S) float32, and what to draw.

    Targets are (N, 3, S, S) float32 maps in [0, 1] for instances (foreground, normalised distance,
    touching edge), and (N, S, S) int64 class ids for semantic segmentation.
    """

    def __init__(self, recipe: UNetRecipe) -> None:
        self._recipe = recipe
        self.network = build_unet(recipe.architecture.model_dump())
        self.distances = recipe.task == "instances"

    def item(self, crop: Crop) -> Batch:
        if crop.distance is None:
            return crop.planes, crop.class_ids[crop.labels]
        edges = torch.from_numpy(touching_edges(crop.labels.numpy()))
        return crop.planes, torch.stack([(crop.labels > 0).float(), crop.distance, edges.float()])

    def collate(self, items: list[Batch]) -> Batch:
        planes, targets = default_collate(items)
        return planes, targets

    def losses(self, network: torch.nn.Module, batch: Batch) -> dict[str, torch.Tensor]:
        planes, targets = batch
        logits = network(planes.contiguous(memory_format=torch.channels_last)).float()
        if self._recipe.task == "instances":
            return instance_loss(logits, targets, self._recipe)
        return semantic_loss(logits, targets, self._recipe)


def instance_loss(
    logits: torch.Tensor, targets: torch.Tensor, weights: UNetRecipe
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
        "dice": weights.dice * _dice_loss(foreground.sigmoid(), true_foreground, (1, 2)),
        "distance": weights.distance
        * (_mean(error, true_foreground) + _mean(error, 1 - true_foreground))
        / 2,
        "edge": weights.edge * _focal(edge, true_edge),
    }


def semantic_loss(
    logits: torch.Tensor, targets: torch.Tensor, weights: UNetRecipe
) -> dict[str, torch.Tensor]:
    """Cross entropy, and one minus the soft Dice of each class but the background.

    The Dice is of the whole batch, as many crops hold nothing of a class.

    Args:
        logits: (N, C, H, W) float32.
        targets: (N, H, W) int64 in 0..C-1.
    """
    classes = logits.shape[1]
    drawn = functional.one_hot(targets, classes).movedim(-1, 1).float()
    found, drawn = (maps[:, 1:].movedim(1, 0).flatten(2) for maps in (logits.softmax(1), drawn))
    return {
        "cross_entropy": weights.cross_entropy * functional.cross_entropy(logits, targets),
        "dice": weights.class_dice * _dice_loss(found, drawn, (1, 2)),
    }


def _cross_entropy(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    return functional.binary_cross_entropy_with_logits(logits, target, reduction="none")


def _dice_loss(
    probability: torch.Tensor, target: torch.Tensor, over: tuple[int, ...]
) -> torch.Tensor:
    """Mean of one minus the soft Dice (Milletari et al., 3DV 2016); +1 for where nothing is."""
    overlap = (probability * target).sum(over)
    total = probability.sum(over) + target.sum(over)
    return (1 - (2 * overlap + 1) / (total + 1)).mean()


def _mean(values: torch.Tensor, where: torch.Tensor) -> torch.Tensor:
    """Mean over the pixels of the batch where `where` is 1; 0 where there are none."""
    return (values * where).sum() / where.sum().clamp(min=1)


def _focal(logits: torch.Tensor, target: torch.Tensor, gamma: float = 2.0) -> torch.Tensor:
    """Focal cross-entropy with edge and other pixels in equal parts."""
    entropy = _cross_entropy(logits, target)
    focal = (1 - torch.exp(-entropy)) ** gamma * entropy
    return _mean(focal, target) + _mean(focal, 1 - target)
