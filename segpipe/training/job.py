"""What a training run is told, and what it tells while it goes on."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from segpipe.training.recipe import Recipe


@dataclass(frozen=True, slots=True)
class Job:
    """What to train, on what, and where to.

    Attributes:
        recipe, text: as `read_recipe` gives them.
        data: folder of annotated images.
        out: weights file to write; beside it, in a folder of the same name ending in `.training`,
            stand checkpoint, logs and pictures.
        resume: go on from the checkpoint, if there is one.
        device: `auto`, `cpu` or `cuda`.
        workers: processes that make crops.
    """

    recipe: Recipe
    text: str
    data: Path
    out: Path
    resume: bool = False
    device: str = "auto"
    workers: int = 1

    @property
    def folder(self) -> Path:
        return self.out.with_suffix(".training")

    @property
    def text_sha256(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class TrainingProgress:
    """Where a run stands after a step.

    Attributes:
        step, steps: updates done, and of how many.
        losses: the weighted parts of the loss of this step.
        validation_loss, metric, best: as last measured; NaN before.
    """

    step: int
    steps: int
    losses: dict[str, float]
    validation_loss: float = math.nan
    metric: float = math.nan
    best: float = math.nan


Observer = Callable[[TrainingProgress], None]
