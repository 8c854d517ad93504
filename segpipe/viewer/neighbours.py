"""Objects that are like another one: nearest in the space of their measures.

Each measure is taken relative to the objects of its class: less the median, over the median
absolute deviation, so that no unit and no outlier decides (Rousseeuw and Croux, JASA 1993).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from segpipe.store import Snapshot
from segpipe.store.snapshot import Row

MOST_OBJECTS = 1_000_000
"""That are looked through; the first ones of the run's chunks, where there are more."""

MEASURES = ("area", "perimeter", "eccentricity", "solidity", "mean_intensity", "std_intensity")
_KEYS = ("image_id", "label", "class_name")


@dataclass(frozen=True, slots=True)
class Neighbour:
    """An object that is like another; `distance` is in deviations, over all measures together."""

    image_id: str
    label: int
    distance: float


class Features:
    """The measures of the objects of one run.

    Attributes:
        sampled: whether there are more objects than were looked through.
    """

    def __init__(self, snapshot: Snapshot, run_id: str) -> None:
        dataset = snapshot.dataset("objects")
        table = dataset.scanner(
            columns=[*_KEYS, *MEASURES], filter=ds.field("run_id") == run_id
        ).head(MOST_OBJECTS + 1)
        self.sampled = len(table) > MOST_OBJECTS
        self._keys = table.select(_KEYS).slice(0, MOST_OBJECTS)
        columns = [_first_channel(table[name]).slice(0, MOST_OBJECTS) for name in MEASURES]
        self._values = np.stack([_floats(column) for column in columns], axis=1)
        self._classes = self._keys["class_name"].combine_chunks()

    def nearest(self, one: Row, count: int) -> list[Neighbour]:
        """The objects of the same class that are most like one of them, itself left out."""
        members = np.flatnonzero(pc.equal(self._classes, one["class_name"]).to_numpy(False))
        values = self._values[members]
        if not len(values):
            return []
        middle = np.median(values, axis=0)
        spread = np.median(np.abs(values - middle), axis=0)
        own = np.array([_number(one[name]) for name in MEASURES], np.float32)
        scaled = (values - own) / np.where(spread > 0, spread, 1)
        distances = np.sqrt((scaled**2).sum(axis=1))
        found = []
        for index in np.argsort(distances, kind="stable")[: count + 1]:
            key = self._keys.slice(int(members[index]), 1).to_pylist()[0]
            if (key["image_id"], key["label"]) != (one["image_id"], one["label"]):
                found.append(Neighbour(key["image_id"], key["label"], float(distances[index])))
        return found[:count]


def _first_channel(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.list_element(column, 0) if pa.types.is_list(column.type) else column


def _floats(column: pa.ChunkedArray) -> npt.NDArray[np.float32]:
    """Numbers; 0 where there is none."""
    numbers: npt.NDArray[np.float32] = (
        pc.fill_null(pc.cast(column, pa.float32()), 0).to_numpy().astype(np.float32)
    )
    return numbers


def _number(value: Any) -> float:
    value = value[0] if isinstance(value, list) and value else value
    return float(value) if isinstance(value, int | float) else 0.0
