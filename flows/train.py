"""Train a model: the flow behind a schedule that trains again when new annotations have come.

`segpipe train` does the same without Prefect, and alone can use several GPUs (torchrun).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger
from prefect.artifacts import create_markdown_artifact
from pydantic import BaseModel, ConfigDict


class TrainSpec(BaseModel):
    """The arguments of `segpipe train`.

    Attributes:
        recipe: TOML file, or the name of a recipe that comes with segpipe.
        data: folder of annotated images.
        out: weights file to write.
        resume: go on from the checkpoint, if there is one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    recipe: str
    data: str
    out: str
    resume: bool = True
    device: str = "auto"
    workers: int = 1


@flow(name="train", validate_parameters=True, persist_result=False)
def train(spec: TrainSpec) -> dict[str, Any]:
    """Train, and leave a weights file; a run that was stopped goes on.

    Returns:
        `<subgroup>/<precision>` -> metric -> value, on the validation images.
    """
    from segpipe.cli.console import training_text
    from segpipe.training import Job, TrainingProgress, read_recipe
    from segpipe.training import train as train_model

    recipe, text = read_recipe(Path(spec.recipe))
    logger = get_run_logger()
    shown = max(1, recipe.optimiser.steps // 20)

    def observe(progress: TrainingProgress) -> None:
        if progress.step % shown == 0:
            logger.info("%s", progress)

    job = Job(recipe, text, Path(spec.data), Path(spec.out), spec.resume, spec.device, spec.workers)
    trained = train_model(job, observe)
    if trained is None or trained.header.training is None:  # another process of torchrun reports
        return {}
    text = f"```\n{training_text(trained)}\n```"
    create_markdown_artifact(text, key="segpipe-training", description=trained.header.name)
    return trained.header.training.metrics
