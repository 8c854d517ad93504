"""What a run was like, measurement by measurement: a Parquet file, and TensorBoard's log."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

SCHEMA = pa.schema(
    [
        pa.field("step", pa.int64(), False, {"meaning": "updates of the weights so far"}),
        pa.field("split", pa.string(), False, {"meaning": "train or val"}),
        pa.field("name", pa.string(), False, {"meaning": "loss, a part of it, metric, or rate"}),
        pa.field("value", pa.float64(), False, {"meaning": "train: mean since the last one"}),
        pa.field("seconds", pa.float64(), False, {"unit": "s", "meaning": "of training so far"}),
    ]
)

LOSS = "loss"
METRIC = "metric"


@dataclass(frozen=True, slots=True)
class Measurement:
    """One number; the columns of `SCHEMA`."""

    step: int
    split: str
    name: str
    value: float
    seconds: float


class History:
    """The measurements of a run, in order, kept in a folder.

    Args:
        folder: for `log.parquet` and TensorBoard's files.
    """

    def __init__(self, folder: Path) -> None:
        self.measurements: list[Measurement] = []
        self._folder, self._path = folder, folder / "log.parquet"
        self._board: Any = None

    def begin(self) -> None:
        """Start a clean log; that of an earlier run is removed."""
        for old in self._folder.glob("events.out.tfevents.*"):
            old.unlink()
        self._board = _board(self._folder)

    def add(self, step: int, split: str, values: dict[str, float], seconds: float) -> None:
        """Note numbers of one split at one step, and write them down."""
        for name, value in values.items():
            self.measurements.append(Measurement(step, split, name, value, seconds))
            if self._board is not None:
                self._board.add_scalar(f"{name}/{split}", value, step)
        if self._board is not None:
            self._board.flush()
        self._write()

    def restore(self, measurements: list[Measurement]) -> None:
        """Go on after these; what was written beyond them is forgotten."""
        self.measurements = list(measurements)
        self._board = _board(self._folder)
        self._write()

    def series(self, split: str, name: str) -> tuple[list[int], list[float]]:
        """Steps and values of one curve."""
        points = [m for m in self.measurements if (m.split, m.name) == (split, name)]
        return [m.step for m in points], [m.value for m in points]

    def _write(self) -> None:
        columns = {name: [getattr(one, name) for one in self.measurements] for name in SCHEMA.names}
        temporary = self._path.with_name(f".{self._path.name}.tmp")
        pq.write_table(pa.table(columns, schema=SCHEMA), temporary)
        temporary.replace(self._path)


RISE = 1.1
GAP = 2.0


def overfits(history: History) -> str:
    """A warning where validation loss has turned away from training loss; empty where not.

    It has where it rose by a tenth since its lowest while training loss fell, or where it ends at
    more than twice the training loss. (Training loss is of varied crops, which are harder than
    those of validation: a model that generalises ends near 1.)
    """
    steps, validation = history.series("val", LOSS)
    _, training = history.series("train", LOSS)
    if not validation or len(training) != len(validation):
        return ""
    lowest = min(range(len(validation)), key=validation.__getitem__)
    advice = "stop earlier, vary the crops more, or annotate more images"
    if validation[-1] > validation[lowest] * RISE and training[-1] < training[lowest]:
        return (
            f"overfitting: since step {steps[lowest]:,} validation loss rose from "
            f"{validation[lowest]:.3f} to {validation[-1]:.3f}, while training loss fell from "
            f"{training[lowest]:.3f} to {training[-1]:.3f}; {advice}"
        )
    if validation[-1] > GAP * training[-1]:
        return (
            f"overfitting: validation loss {validation[-1]:.3f} is "
            f"{validation[-1] / training[-1]:.1f} times training loss {training[-1]:.3f}; {advice}"
        )
    return ""


def _board(folder: Path) -> Any:
    """TensorBoard's writer."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(folder))
