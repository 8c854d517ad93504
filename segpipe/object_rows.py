"""The `objects` rows of a chunk: gathered image by image, made into Arrow columns once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from segpipe.masks.rle import encode
from segpipe.measure.physical import in_micrometres
from segpipe.records import CroppedMask
from segpipe.schema import OBJECTS

TYPES = {column.name: column.type for column in OBJECTS}


class Objects(Protocol):
    """What there is to be said of the objects of an image besides their measures; a `Segmentation`
    says it.

    `shape` is (height, width) of the image; the rest as of a `Segmentation`.
    """

    @property
    def shape(self) -> tuple[int, int]: ...
    @property
    def scores(self) -> npt.NDArray[np.float32]: ...
    @property
    def class_ids(self) -> npt.NDArray[np.int32]: ...
    @property
    def own_masks(self) -> Mapping[int, CroppedMask]: ...
    @property
    def saturated(self) -> bool: ...
    @property
    def n_discarded(self) -> int: ...


class ObjectRows:
    """The objects of the images of one chunk; between images as numpy and Arrow arrays, in which
    an object takes a fifth of what Python's own values would."""

    def __init__(self, classes: Sequence[str]) -> None:
        """`classes` are the names by class id."""
        self._classes = pa.array(classes)
        self._places: list[Mapping[str, Any]] = []
        self._counts: list[int] = []
        self._parts: list[dict[str, pa.Array | npt.NDArray[Any]]] = []

    def add(
        self,
        place: Mapping[str, Any],
        objects: Objects,
        measures: Mapping[str, Any],
        pixel_size_um: tuple[float, float] | None = None,
    ) -> None:
        """The objects of one image.

        Args:
            place: columns that are the same for all of them.
            measures: the columns that `measure_objects` gives.
            pixel_size_um: (y, x), for what is in micrometres; None where it is not known.
        """
        count, shape, own = len(objects.scores), objects.shape, objects.own_masks
        self._places.append(place)
        self._counts.append(count)
        part = {
            **measures,
            **in_micrometres(measures, pixel_size_um),
            "label": np.arange(1, count + 1, dtype=np.int32),
            "class_id": objects.class_ids,
            "score": pa.array(objects.scores, mask=np.isnan(objects.scores)),
            "rle": [encode(own[n], shape) if n in own else None for n in range(1, count + 1)],
        }
        self._parts.append(
            {
                name: pa.array(values, TYPES[name]) if isinstance(values, list) else values
                for name, values in part.items()
            }
        )

    def columns(self) -> dict[str, pa.ChunkedArray]:
        """All columns that `add` was given, and the names of the classes."""
        columns = {name: pa.chunked_array([], kind) for name, kind in TYPES.items()}
        if not self._parts:
            return columns
        image = np.repeat(np.arange(len(self._counts)), self._counts)
        for name in self._places[0]:
            values = pa.array([place[name] for place in self._places], TYPES[name])
            columns[name] = values.take(image)
        for name in self._parts[0]:
            columns[name] = pa.chunked_array([part[name] for part in self._parts], TYPES[name])
        columns["class_name"] = self._classes.take(columns["class_id"])
        return columns
