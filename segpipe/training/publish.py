"""From a trained network to a weights file that says where it comes from and how good it is."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

import torch

from segpipe.segmenters.unet_network import STRIDE
from segpipe.segmenters.weights import TileRule, TrainingRecord, WeightsHeader, save
from segpipe.training.data import read_split, split_digest
from segpipe.training.evaluate import compare_methods
from segpipe.training.recipe import Recipe

MAX_SIDE = 4096
"""Longest side, in pixels, that the network is given at once."""


def publish(
    network: torch.nn.Module, recipe: Recipe, recipe_text: str, folder: Path, out: Path
) -> WeightsHeader:
    """Write the weights, measure the file as a run would use it, and write it with the numbers.

    Kernels are stored in half precision (IEEE fp16), everything else as it is; the metrics are of
    the stored weights.

    Returns:
        The header that the file now has.
    """
    tensors = {name: _stored(tensor) for name, tensor in network.state_dict().items()}
    header = _header(recipe, recipe_text, folder)
    save(out, tensors, header)
    metrics = compare_methods(out, list(read_split(folder, "val")))
    assert header.training is not None
    record = header.training.model_copy(update={"metrics": metrics})
    header = header.model_copy(update={"training": record})
    save(out, tensors, header)
    return header


def _stored(tensor: torch.Tensor) -> torch.Tensor:
    return (tensor.half() if tensor.ndim > 1 else tensor).contiguous()


def _header(recipe: Recipe, recipe_text: str, folder: Path) -> WeightsHeader:
    record = TrainingRecord(
        data=recipe.data.name,
        data_sha256=split_digest(folder, "train"),
        images=sum(1 for _ in read_split(folder, "train")),
        recipe=recipe_text,
        recipe_sha256=hashlib.sha256(recipe_text.encode()).hexdigest(),
        seed=recipe.seed,
        steps=recipe.optimiser.steps,
        code_version=metadata.version("segpipe"),
        finished=datetime.now(UTC).date().isoformat(),
    )
    return WeightsHeader(
        name=recipe.name,
        kind="unet",
        task="instances",
        description=recipe.description,
        licence=recipe.licence,
        architecture=recipe.architecture.model_dump(mode="json"),
        classes=recipe.classes,
        preprocess=recipe.preprocess,
        postprocess=recipe.postprocess,
        tile=TileRule(multiple_of=STRIDE, max_side=MAX_SIDE),
        training=record,
    )
