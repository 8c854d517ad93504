"""One update after the other: gradients, schedule, moving average.

Step s learns from crops s*B to (s+1)*B - 1 and draws its random numbers from (seed, s), so a run
that is resumed, or spread over several devices, goes the same way.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from segpipe.errors import SpecError
from segpipe.training.learner import Batch, Learner
from segpipe.training.recipe import OptimiserRecipe
from segpipe.training.workplace import Workplace

MOMENTUM = 0.9
SEED_STRIDE = 1_000_003


class Trainer:
    """A network on its way: weights, moving average, optimiser, number of steps done.

    Args:
        parts: passes per update on this process, as `micro_batches` says.
    """

    def __init__(
        self, learner: Learner, rule: OptimiserRecipe, seed: int, place: Workplace, parts: int
    ) -> None:
        self.step = 0
        self._learner, self._rule, self._seed, self._place = learner, rule, seed, place
        self._parts = parts
        network = learner.network.to(place.device)
        self._network = network
        self._optimiser = _optimiser(network, rule)
        average = get_ema_multi_avg_fn(rule.ema_decay)  # type: ignore[no-untyped-call]
        self._averaged = AveragedModel(network, multi_avg_fn=average, use_buffers=True)
        self._averaged.eval()
        self._replica: torch.nn.Module = network
        if place.world > 1:
            self._replica = DistributedDataParallel(network)

    @property
    def averaged(self) -> torch.nn.Module:
        """The network with the moving average of the weights, in eval mode; it goes on changing."""
        return self._averaged.module

    def update(self, batches: Sequence[Batch]) -> dict[str, float]:
        """Do one step.

        Returns:
            The parts of the loss of this step's crops, before the step.

        Raises:
            SpecError: the loss is not finite.
        """
        rule = self._rule
        place = self._place
        torch.manual_seed(self._seed * SEED_STRIDE + self.step * place.world + place.rank)
        for group in self._optimiser.param_groups:
            group["lr"] = group["peak"] * schedule(self.step, rule)
        self._network.train()
        self._optimiser.zero_grad()
        totals: dict[str, torch.Tensor] = {}
        for batch in batches:
            with autocast(self._place.device, rule.precision):
                losses = self._learner.losses(self._replica, to_device(batch, self._place.device))
            (torch.stack(list(losses.values())).sum() / self._parts).backward()  # type: ignore[no-untyped-call]
            for name, loss in losses.items():
                totals[name] = totals.get(name, 0) + loss.detach() / self._parts
        found = {name: float(total) for name, total in totals.items()}
        if not all(math.isfinite(loss) for loss in found.values()):
            raise SpecError(
                f"step {self.step + 1}: the loss is {found}; lower optimiser.learning_rate, or use "
                "precision = 'fp32'"
            )
        torch.nn.utils.clip_grad_norm_(self._network.parameters(), rule.clip_norm)
        self._optimiser.step()
        self.step += 1
        if self.step <= warm_up_steps(rule):
            self._averaged.n_averaged.zero_()  # the average starts from a copy, after the warm-up
        self._averaged.update_parameters(self._network)
        return found

    def validation_losses(self, batches: Sequence[Batch]) -> dict[str, float]:
        """The parts of the loss of the averaged weights, mean over the batches."""
        totals: dict[str, float] = {}
        torch.manual_seed(self._seed)
        for batch in batches:
            with torch.no_grad(), autocast(self._place.device, self._rule.precision):
                losses = self._learner.losses(self.averaged, to_device(batch, self._place.device))
            for name, loss in losses.items():
                totals[name] = totals.get(name, 0.0) + float(loss) / len(batches)
        return totals

    def state(self) -> dict[str, Any]:
        """All that the next steps depend on: tensors and numbers."""
        return {
            "step": self.step,
            "network": self._network.state_dict(),
            "averaged": self._averaged.state_dict(),
            "optimiser": self._optimiser.state_dict(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a `state` of the same recipe."""
        self.step = state["step"]
        self._network.load_state_dict(state["network"])
        self._averaged.load_state_dict(state["averaged"])
        self._optimiser.load_state_dict(state["optimiser"])


class StepSampler:
    """Indices of the crops of each pass of this process, from a step to the last."""

    def __init__(self, rule: OptimiserRecipe, first_step: int, place: Workplace) -> None:
        self._rule, self._first, self._place = rule, first_step, place
        self._micro = micro_batches(rule, place.world)[1]

    def __iter__(self) -> Iterator[list[int]]:
        share = self._rule.batch // self._place.world
        for step in range(self._first, self._rule.steps):
            start = step * self._rule.batch + self._place.rank * share
            for at in range(start, start + share, self._micro):
                yield list(range(at, at + self._micro))

    def __len__(self) -> int:
        share = self._rule.batch // self._place.world
        return (self._rule.steps - self._first) * (share // self._micro)


def micro_batches(rule: OptimiserRecipe, world: int) -> tuple[int, int]:
    """How many passes of how many crops make this process's share of a batch.

    Raises:
        SpecError: the batch cannot be divided so.
    """
    share = rule.batch // world
    micro = min(rule.micro_batch or share, share)
    if not micro or share * world != rule.batch or share % micro:
        raise SpecError(
            f"optimiser.batch = {rule.batch} cannot be divided into {world} processes with passes "
            f"of micro_batch = {rule.micro_batch}"
        )
    return share // micro, micro


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """bf16 where convolutions and products are concerned, if asked for."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")


def to_device(batch: Batch, device: torch.device) -> Batch:
    """The same containers with their tensors on a device."""
    match batch:
        case torch.Tensor():
            return batch.to(device, non_blocking=True)
        case dict():
            return {name: to_device(part, device) for name, part in batch.items()}
        case list() | tuple():
            return type(batch)(to_device(part, device) for part in batch)
        case _:
            return batch


def schedule(step: int, rule: OptimiserRecipe) -> float:
    """Factor on the learning rate: linear up to 1, then half a cosine down to 0."""
    warm_up = warm_up_steps(rule)
    if step < warm_up:
        return (step + 1) / warm_up
    return (1 + math.cos(math.pi * (step - warm_up) / max(1, rule.steps - warm_up))) / 2


def warm_up_steps(rule: OptimiserRecipe) -> int:
    return max(1, round(rule.steps * rule.warm_up))


def _optimiser(network: torch.nn.Module, rule: OptimiserRecipe) -> torch.optim.Optimizer:
    """The encoder, pretrained, learns more slowly than the rest."""
    encoder: list[torch.nn.Parameter] = []
    rest: list[torch.nn.Parameter] = []
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            (encoder if "encoder." in name or "backbone.body" in name else rest).append(parameter)
    groups = [
        {"params": encoder, "peak": rule.learning_rate * rule.encoder_factor},
        {"params": rest, "peak": rule.learning_rate},
    ]
    groups = [group for group in groups if group["params"]]
    if rule.kind == "sgd":
        return torch.optim.SGD(
            groups,
            lr=rule.learning_rate,
            momentum=MOMENTUM,
            nesterov=True,
            weight_decay=rule.weight_decay,
        )
    return torch.optim.AdamW(groups, lr=rule.learning_rate, weight_decay=rule.weight_decay)
