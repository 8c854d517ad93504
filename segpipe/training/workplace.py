"""Where a process of a training run computes, and how several of them agree."""

from __future__ import annotations

import os
from dataclasses import dataclass

import torch
from torch import distributed

from segpipe.errors import SpecError


@dataclass(frozen=True, slots=True)
class Workplace:
    """One process of a run.

    Attributes:
        device: `cpu`, or `cuda:0`.
        rank, world: this process's number, and how many there are (torchrun starts several).
    """

    device: torch.device
    rank: int = 0
    world: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process measures and writes."""
        return self.rank == 0

    def wait_for_all(self) -> None:
        """All processes meet here."""
        if self.world > 1:
            distributed.barrier()

    def mean(self, values: dict[str, float]) -> dict[str, float]:
        """Each value's mean over all processes."""
        if self.world == 1:
            return values
        total = torch.tensor([*values.values()], dtype=torch.float64, device=self.device)
        distributed.all_reduce(total)
        return dict(zip(values, (total / self.world).tolist(), strict=True))

    def agree(self, value: float) -> float:
        """The leading process's value, everywhere."""
        if self.world == 1:
            return value
        shared = torch.tensor([value], dtype=torch.float64, device=self.device)
        distributed.broadcast(shared, 0)
        return float(shared)


def find_workplace(device: str) -> Workplace:
    """The device of this process; several processes of torchrun find each other here.

    Raises:
        SpecError: CUDA is asked for and absent.
    """
    cuda = torch.cuda.is_available()
    if device == "cuda" and not cuda:
        raise SpecError("device = 'cuda', but torch finds no CUDA device here; use 'auto' or 'cpu'")
    kind = "cuda" if cuda and device != "cpu" else "cpu"
    world = int(os.environ.get("WORLD_SIZE", "1"))
    rank = int(os.environ.get("RANK", "0"))
    if world > 1 and not distributed.is_initialized():
        distributed.init_process_group("nccl" if kind == "cuda" else "gloo")
    index = int(os.environ.get("LOCAL_RANK", "0"))
    place = torch.device("cuda", index) if kind == "cuda" else torch.device("cpu")
    return Workplace(place, rank, world)
