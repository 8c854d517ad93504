"""A training run: from a recipe and a folder of annotated images to a network."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from segpipe.segmenters.unet_network import build_unet
from segpipe.training.data import RandomCrops, read_split
from segpipe.training.loop import Progress, train
from segpipe.training.pretrained import load_imagenet_encoder
from segpipe.training.recipe import Recipe


def fit(
    recipe: Recipe, folder: Path, report: Callable[[Progress], None], workers: int = 0
) -> torch.nn.Module:
    """Train the network of a recipe on the `train` split of a folder.

    Returns:
        The network with its averaged weights, in eval mode.

    Raises:
        SpecError: data or recipe cannot be used as they are; before anything is trained.
    """
    rule = recipe.optimiser
    crops = RandomCrops(
        read_split(folder, "train"),
        recipe.preprocess,
        recipe.data,
        recipe.augment,
        length=rule.steps * rule.batch,
        seed=recipe.seed,
    )
    torch.manual_seed(recipe.seed)
    network = build_unet(recipe.architecture.model_dump())
    if recipe.encoder_weights == "imagenet":
        load_imagenet_encoder(network)
    return train(network, crops, recipe, report, workers)
