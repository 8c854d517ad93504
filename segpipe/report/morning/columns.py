"""Distributions of what was measured of objects, class by class: any column, and how many."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from segpipe.errors import SpecError
from segpipe.report.morning.bins import Histogram, Scale
from segpipe.schema import FLOATS, OBJECTS

_NOT_MEASURED = {"label", "class_id", "mask_index"}

MAX_CHANNELS = 3

Distributions = Mapping[str, Histogram]
"""Class -> values of its objects."""


@dataclass(frozen=True, slots=True)
class Column:
    """Something measured of each object.

    Attributes:
        name: of the column; of one channel of it, with its number behind: `mean_intensity 1`.
        unit: as in the schema.
        classes: what was found.
    """

    name: str
    unit: str
    classes: Distributions


def measured_columns() -> dict[str, str]:
    """Name -> unit of each column of `objects` that has numbers to count."""
    return {
        column.name: column.unit
        for column in OBJECTS
        if column.name not in _NOT_MEASURED
        and (column.type == FLOATS or pa.types.is_floating(column.type) or _whole(column.type))
    }


def check_columns(names: Sequence[str]) -> None:
    """
    Raises:
        SpecError: `objects` has no such column of numbers.
    """
    known = measured_columns()
    for name in names:
        if name not in known:
            raise SpecError(
                f"{name!r} is no measured column of objects; there are {', '.join(known)}"
            )


def _whole(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind))


@dataclass(slots=True)
class ColumnCounts:
    """Counts of columns while rows go by.

    Attributes:
        names: of columns of `objects`, all of numbers.
    """

    names: Sequence[str]
    _found: dict[str, dict[str, Histogram]] = field(default_factory=dict)
    _counted: dict[str, Histogram] = field(default_factory=dict)
    _images: int = 0

    def add(
        self,
        objects: pa.Table,
        owner: npt.NDArray[np.int64],
        codes: npt.NDArray[np.integer[Any]],
        classes: Sequence[str],
        images: int,
    ) -> None:
        """Rows of `objects`.

        Args:
            owner: (N,) which of the images an object is of; negative: none of them.
            codes: (N,) which of the classes.
            images: how many images there were.
        """
        self._images += images
        known = owner >= 0
        pairs = np.stack([codes[known].astype(np.int64), owner[known]])
        (of_class, _), counts = np.unique(pairs, axis=1, return_counts=True)
        for code, name in enumerate(classes):
            join(self._counted, name, "whole", counts[of_class == code])
        for column in self.names:
            for shown, values in _channels(column, objects[column]):
                into = self._found.setdefault(shown, {})
                for code, name in enumerate(classes):
                    join(into, name, "real", values[codes == code])

    def columns(self) -> list[Column]:
        """In the order of their names, channels one by one."""
        units = measured_columns()
        return [
            Column(shown, units[shown.split(" ")[0]], classes)
            for shown, classes in self._found.items()
        ]

    def per_image(self) -> dict[str, Histogram]:
        """Class -> objects of it in an image, images without one counted too."""
        none = np.array([0], np.int64)
        return {
            name: Histogram.sum(
                "whole", [found, Histogram("whole", none, none + self._images - found.total)]
            )
            for name, found in self._counted.items()
        }


def join(into: dict[str, Histogram], name: str, scale: Scale, values: npt.NDArray[Any]) -> None:
    """Count more values of a class."""
    part = Histogram.of(scale, values)
    known = into.get(name)
    into[name] = Histogram.sum(scale, [known, part]) if known else part


def _channels(name: str, column: pa.ChunkedArray) -> list[tuple[str, npt.NDArray[Any]]]:
    """Name and values, (N,) each, NaN where there is none, of a column or of its channels."""
    if column.type != FLOATS:
        return [(name, column.cast(pa.float64()).to_numpy())]
    lists = column.combine_chunks()
    lengths = lists.value_lengths().fill_null(0).to_numpy()
    values = lists.flatten().to_numpy(zero_copy_only=False).astype(np.float64)
    starts = np.cumsum(lengths) - lengths
    found = []
    for channel in range(min(MAX_CHANNELS, int(lengths.max(initial=0)))):
        there = lengths > channel
        own = np.full(len(lengths), np.nan)
        own[there] = values[starts[there] + channel]
        found.append((f"{name} {channel + 1}", own))
    return found
