"""The training loop: AdamW, one cosine cycle, a moving average of the weights."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader, Dataset

from segpipe.training.loss import instance_loss
from segpipe.training.recipe import OptimiserRecipe, Recipe

Crops = Dataset[tuple[torch.Tensor, torch.Tensor]]


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a run stands after a step.

    Attributes:
        step: updates done so far.
        losses: the weighted parts of the loss of this step's batch.
        averaged: the network with the moving average of the weights; it goes on changing.
    """

    step: int
    losses: dict[str, float]
    averaged: torch.nn.Module


def train(
    network: torch.nn.Module,
    crops: Crops,
    recipe: Recipe,
    report: Callable[[Progress], None],
    workers: int = 0,
) -> torch.nn.Module:
    """Train `network` on `crops` in their order, once through.

    The same network, crops and recipe give the same weights on the same machine with the same
    number of threads, whatever the number of `workers` (processes that make crops).

    Returns:
        The network with the averaged weights, in eval mode.
    """
    rule = recipe.optimiser
    optimiser = torch.optim.AdamW(_groups(network, rule), weight_decay=rule.weight_decay)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: _cosine_cycle(step, rule))
    average = get_ema_multi_avg_fn(rule.ema_decay)  # type: ignore[no-untyped-call]
    averaged = AveragedModel(network, multi_avg_fn=average, use_buffers=True)
    warm_up = _warm_up_steps(rule)
    network.train()
    averaged.eval()
    batches = DataLoader(crops, rule.batch, num_workers=workers, drop_last=True)
    for step, (planes, targets) in enumerate(batches, start=1):
        planes = planes.contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16, enabled=rule.precision == "bf16"):
            logits = network(planes)
        losses = instance_loss(logits.float(), targets, recipe.loss)
        optimiser.zero_grad()
        torch.stack(list(losses.values())).sum().backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(network.parameters(), rule.clip_norm)
        optimiser.step()
        schedule.step()
        if step <= warm_up:
            averaged.n_averaged.zero_()  # the average starts from a copy, after the warm-up
        averaged.update_parameters(network)
        report(Progress(step, {k: v.item() for k, v in losses.items()}, averaged.module))
    return averaged.module


def _groups(network: torch.nn.Module, rule: OptimiserRecipe) -> list[dict[str, object]]:
    """The encoder, pretrained, learns more slowly than the rest."""
    encoder: list[torch.nn.Parameter] = []
    rest: list[torch.nn.Parameter] = []
    for name, parameter in network.named_parameters():
        (encoder if name.startswith("encoder.") else rest).append(parameter)
    return [
        {"params": encoder, "lr": rule.learning_rate * rule.encoder_factor},
        {"params": rest, "lr": rule.learning_rate},
    ]


def _cosine_cycle(step: int, rule: OptimiserRecipe) -> float:
    """Factor on the learning rate: linear up to 1, then half a cosine down to 0."""
    warm_up = _warm_up_steps(rule)
    if step < warm_up:
        return (step + 1) / warm_up
    return (1 + math.cos(math.pi * (step - warm_up) / max(1, rule.steps - warm_up))) / 2


def _warm_up_steps(rule: OptimiserRecipe) -> int:
    return max(1, round(rule.steps * rule.warm_up))
