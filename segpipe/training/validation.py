"""What a run is measured on while it goes on."""

from __future__ import annotations

from pathlib import Path

from segpipe.training.augment import Augmentation, unvaried
from segpipe.training.crops import Crops
from segpipe.training.data import Annotated, read_example
from segpipe.training.evaluate import evaluate, load
from segpipe.training.job import Job
from segpipe.training.learner import Learner
from segpipe.training.loop import Trainer
from segpipe.training.publish import make_header, write_weights

SEED_OFFSET = 1
"""Validation crops are drawn with another seed than those of training."""


class Validation:
    """What a run is measured on: the same crops and images each time."""

    def __init__(self, job: Job, data: list[Annotated], learner: Learner, trainer: Trainer) -> None:
        self._job, self._trainer = job, trainer
        recipe = job.recipe
        watch = recipe.validation
        crops = Crops(
            data,
            learner,
            recipe,
            Augmentation(
                unvaried(recipe.augment), recipe.data.crop, recipe.preprocess, recipe.data.focus
            ),
            length=watch.crops,
            seed=recipe.seed + SEED_OFFSET,
        )
        items = [crops[index] for index in range(watch.crops)]
        size = recipe.optimiser.micro_batch or recipe.optimiser.batch
        self._batches = [
            learner.collate(items[at : at + size]) for at in range(0, len(items), size)
        ]
        self.examples = [read_example(one) for one in data]

    def losses(self) -> dict[str, float]:
        """Parts of the validation loss of the averaged weights."""
        return self._trainer.validation_losses(self._batches)

    def metric(self, path: Path) -> float:
        """The metric of the averaged weights, which are then in the file `path`."""
        recipe = self._job.recipe
        write_weights(path, self._trainer.averaged, make_header(recipe, recipe.postprocess, None))
        segmenter = load(path, self._job.device, recipe.optimiser.precision)
        watched = self.examples[: recipe.validation.images]
        return evaluate(segmenter, watched).metric
