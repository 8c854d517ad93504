"""One training run in one process: steps, measurements, checkpoints."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

import torch
from torch.utils.data import DataLoader

from segpipe.errors import SpecError
from segpipe.segmenters.weights import WeightsHeader, load_tensors, save
from segpipe.training.augment import Augmentation
from segpipe.training.checkpoint import read_checkpoint, write_checkpoint
from segpipe.training.crops import Crops
from segpipe.training.data import Annotated, data_digest, of_split
from segpipe.training.history import LOSS, METRIC, History
from segpipe.training.job import Job, Observer, TrainingProgress
from segpipe.training.learner import Batch, Learner, build_learner
from segpipe.training.loop import StepSampler, Trainer, micro_batches
from segpipe.training.publish import make_header, make_record
from segpipe.training.start import initialise
from segpipe.training.tune import tune
from segpipe.training.validation import Validation
from segpipe.training.workplace import Workplace

log = logging.getLogger(__name__)

LOADED_AHEAD = 4
"""Passes that a loading process prepares."""


class Session:
    """The state of a run, apart from what `Trainer` holds.

    Attributes:
        history: every measurement so far.
        validation: what it is measured on.
    """

    def __init__(self, job: Job, data: list[Annotated], place: Workplace) -> None:
        self._job, self._place = job, place
        self._train, self._val = of_split(data, "train"), of_split(data, "val")
        self._digest = data_digest(self._train)
        self._parts = micro_batches(job.recipe.optimiser, place.world)[0]
        self._best = -1.0
        self._stale = 0
        self._trainer, self._learner = self._start()
        self.history = History(job.folder)
        self._resume()
        self.validation = Validation(job, self._val, self._learner, self._trainer)

    @property
    def _best_weights(self) -> Path:
        """Of the best metric so far."""
        return self._job.folder / "best.safetensors"

    @property
    def _candidate(self) -> Path:
        return self._job.folder / "candidate.safetensors"

    @property
    def _checkpoint(self) -> Path:
        return self._job.folder / "checkpoint.pt"

    @property
    def _identity(self) -> str:
        return f"{self._job.text_sha256} {self._digest}"

    def run(self, observe: Observer) -> None:
        """All steps that are left, with a measurement after every `validation.every`."""
        rule, watch = self._job.recipe.optimiser, self._job.recipe.validation
        started = time.monotonic() - self._seconds_so_far()
        sums: dict[str, float] = {}
        since = 0
        progress = TrainingProgress(self._trainer.step, rule.steps, {})
        for batches in self._batches():
            losses = self._trainer.update(batches)
            since += 1
            for name, loss in losses.items():
                sums[name] = sums.get(name, 0.0) + loss
            progress = replace(progress, step=self._trainer.step, losses=losses)
            if self._trainer.step % watch.every == 0 or self._trainer.step == rule.steps:
                means = self._place.mean({name: total / since for name, total in sums.items()})
                progress = self._measure(progress, means, time.monotonic() - started)
                sums, since = {}, 0
            observe(progress)
            if watch.patience is not None and self._stale >= watch.patience:
                log.warning("stopped early: no better metric in %d measurements", self._stale)
                break

    def publish(self) -> WeightsHeader:
        """Choose the thresholds with the best weights, measure them, and write the file."""
        job, recipe = self._job, self._job.recipe
        options, metrics = tune(self._best_weights, recipe, self.validation.examples)
        record = make_record(
            recipe,
            job.text,
            data_sha256=self._digest,
            start_sha256=self._start_sha256,
            images=len(self._train),
            steps=self._trainer.step,
            metrics=metrics,
        )
        header = make_header(recipe, options, record)
        save(job.out, load_tensors(self._best_weights), header)
        for path in (self._checkpoint, self._candidate, self._best_weights):
            path.unlink(missing_ok=True)
        return header

    def _start(self) -> tuple[Trainer, Learner]:
        recipe = self._job.recipe
        torch.manual_seed(recipe.seed)
        learner = build_learner(recipe)
        transfer = initialise(learner.network, recipe.start, recipe.start_sha256)
        self._start_sha256 = transfer.sha256 if transfer else ""
        if transfer is not None:
            log.warning("start = %r: %s", recipe.start, transfer.to_text())
        trainer = Trainer(learner, recipe.optimiser, recipe.seed, self._place, self._parts)
        return trainer, learner

    def _resume(self) -> None:
        """Go on from the checkpoint, or begin with a clean log.

        Raises:
            SpecError: there is a checkpoint that nobody asked to go on from.
        """
        if not self._checkpoint.exists():
            self.history.begin()
            return
        if not self._job.resume:
            raise SpecError(
                f"{self._checkpoint} is of a run that was stopped; go on with --resume, or remove "
                f"the folder {self._job.folder} to begin anew"
            )
        state, measurements = read_checkpoint(self._checkpoint, self._identity)
        self._best, self._stale = state.pop("best"), state.pop("stale")
        self._trainer.restore(state)
        self.history.restore(measurements)
        log.warning("goes on after step %d", self._trainer.step)

    def _seconds_so_far(self) -> float:
        return self.history.measurements[-1].seconds if self.history.measurements else 0.0

    def _batches(self) -> Iterator[list[Batch]]:
        """For each step that is left its passes."""
        recipe = self._job.recipe
        variation = Augmentation(
            recipe.augment, recipe.data.crop, recipe.preprocess, recipe.data.focus
        )
        length = recipe.optimiser.steps * recipe.optimiser.batch
        crops = Crops(self._train, self._learner, recipe, variation, length, recipe.seed)
        passes = iter(
            DataLoader(
                crops,
                batch_sampler=StepSampler(recipe.optimiser, self._trainer.step, self._place),
                collate_fn=self._learner.collate,
                num_workers=self._job.workers,
                prefetch_factor=LOADED_AHEAD if self._job.workers else None,
                pin_memory=self._place.device.type == "cuda",
            )
        )
        while batches := list(islice(passes, self._parts)):
            yield batches

    def _measure(
        self, progress: TrainingProgress, train: dict[str, float], seconds: float
    ) -> TrainingProgress:
        """Validation loss and metric; keeps the weights if they are the best; checkpoint."""
        metric = math.nan
        if self._place.leads:
            losses = _with_sum(self.validation.losses())
            metric = self.validation.metric(self._candidate)
            self.history.add(self._trainer.step, "train", _with_sum(train), seconds)
            self.history.add(self._trainer.step, "val", {**losses, METRIC: metric}, seconds)
            if metric > self._best:
                self._candidate.replace(self._best_weights)
            progress = replace(progress, validation_loss=losses[LOSS], metric=metric)
        metric = self._place.agree(metric)
        self._stale = 0 if metric > self._best else self._stale + 1
        self._best = max(self._best, metric)
        if self._place.leads:
            state = {**self._trainer.state(), "best": self._best, "stale": self._stale}
            write_checkpoint(self._checkpoint, state, self._identity, self.history.measurements)
        return replace(progress, best=self._best)


def _with_sum(parts: dict[str, float]) -> dict[str, float]:
    return {LOSS: sum(parts.values()), **parts}
