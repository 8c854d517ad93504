"""A training run, from a recipe and a folder of annotated images to a weights file."""

from __future__ import annotations

import time
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from segpipe.errors import SpecError
from segpipe.segmenters.weights import WeightsHeader
from segpipe.training.curves import draw_curves
from segpipe.training.data import list_data
from segpipe.training.evaluate import load
from segpipe.training.history import History, overfits
from segpipe.training.job import Job, Observer
from segpipe.training.panel import draw_panel
from segpipe.training.session import Session
from segpipe.training.workplace import find_workplace


@dataclass(frozen=True, slots=True)
class Trained:
    """What a run left behind.

    Attributes:
        out: the weights file.
        header: what it says of itself.
        history: every measurement of the run.
        pictures: its curves, and validation images with truth and prediction.
        warning: that it overfits; empty where it does not.
        seconds: from start to end.
    """

    out: Path
    header: WeightsHeader
    history: History
    pictures: tuple[Path, ...]
    warning: str
    seconds: float


def train(job: Job, observe: Observer) -> Trained | None:
    """Train, measure, choose the decision thresholds, and write the weights file and pictures.

    The same recipe, data, seed and thread count give the same weights on a CPU, whatever the
    number of `workers`, and whether or not the run was stopped and resumed in between.

    Returns:
        None in all but the first of several processes.

    Raises:
        SpecError: data, recipe or checkpoint cannot be used as they are.
    """
    _check_packages()
    started = time.monotonic()
    place = find_workplace(job.device)
    data = list_data(job.data, job.recipe.data, job.recipe.classes)
    job.folder.mkdir(parents=True, exist_ok=True)
    session = Session(job, data, place)
    session.run(observe)
    place.wait_for_all()
    if not place.leads:
        return None
    header = session.publish()
    warning = overfits(session.history)
    curves, panel = job.folder / "curves.png", job.folder / "panel.png"
    draw_curves(session.history, header.name, curves, warning)
    segmenter = load(job.out, job.device, job.recipe.optimiser.precision)
    draw_panel(segmenter, session.validation.examples).save(panel)
    seconds = time.monotonic() - started
    return Trained(job.out, header, session.history, (curves, panel), warning, seconds)


def _check_packages() -> None:
    """What is needed at the end is asked for at the beginning."""
    missing = [name for name in ("matplotlib", "tensorboard") if find_spec(name) is None]
    if missing:
        raise SpecError(f"training needs {', '.join(missing)}: pip install 'segpipe[train]'")
