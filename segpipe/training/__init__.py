"""Training of the networks that segpipe runs: what is behind `segpipe train`."""

from segpipe.training.job import Job, TrainingProgress
from segpipe.training.recipe import read_recipe
from segpipe.training.run import Trained, train

__all__ = ["Job", "Trained", "TrainingProgress", "read_recipe", "train"]
