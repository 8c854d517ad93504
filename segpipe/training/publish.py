"""From a trained network to a weights file that says where it comes from and how good it is."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

import torch

from segpipe.segmenters.unet_network import STRIDE
from segpipe.segmenters.weights import TileRule, TrainingRecord, WeightsHeader, save
from segpipe.spec import Options
from segpipe.training.recipe import Recipe

MAX_SIDE = 4096
"""Longest side, in pixels, that a network is given at once."""


def make_header(recipe: Recipe, options: Options, record: TrainingRecord | None) -> WeightsHeader:
    """What the weights file of a recipe says of itself."""
    network = recipe.network
    return WeightsHeader(
        name=recipe.name,
        kind=network.kind,
        task=network.task,
        description=recipe.description,
        licence=recipe.licence,
        notice=recipe.notice,
        architecture=network.architecture.model_dump(mode="json"),
        classes=recipe.classes,
        preprocess=recipe.preprocess,
        postprocess=options,
        tile=TileRule(
            multiple_of=STRIDE if network.kind == "unet" else 1,
            max_side=MAX_SIDE,
        ),
        training=record,
    )


def make_record(
    recipe: Recipe,
    text: str,
    *,
    data_sha256: str,
    start_sha256: str,
    images: int,
    steps: int,
    metrics: dict[str, dict[str, float]],
) -> TrainingRecord:
    """Where the weights come from; dated today."""
    return TrainingRecord(
        data=recipe.data.name,
        data_sha256=data_sha256,
        images=images,
        recipe=text,
        recipe_sha256=hashlib.sha256(text.encode()).hexdigest(),
        seed=recipe.seed,
        steps=steps,
        start_sha256=start_sha256,
        metrics=metrics,
        code_version=metadata.version("segpipe"),
        finished=datetime.now(UTC).date().isoformat(),
    )


def write_weights(path: Path, network: torch.nn.Module, header: WeightsHeader) -> None:
    """Write the network's state: kernels in half precision (IEEE fp16), the rest as it is."""
    save(path, {name: _stored(tensor) for name, tensor in network.state_dict().items()}, header)


def _stored(tensor: torch.Tensor) -> torch.Tensor:
    return (tensor.half() if tensor.ndim > 1 else tensor).cpu().contiguous()
