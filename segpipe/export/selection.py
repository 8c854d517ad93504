"""The objects, or images, of a store that meet a condition, as a store that has no others."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from segpipe.geometry import Box
from segpipe.query.condition import check_condition, wrapped
from segpipe.query.execute import connect, query
from segpipe.query.views import create_views
from segpipe.store.snapshot import Row, Snapshot

KEY = ("image_id", "run_id", "chunk_id")
"""Which result of which image a row is of."""

_SECONDS = 600.0

_OBJECTS = """
(SELECT objects.*, images.path, images.model
 FROM objects JOIN images USING (image_id, run_id, chunk_id)) AS objects
"""
"""What a condition on objects may name."""

Labels = npt.NDArray[np.unsignedinteger[Any]]


class Selection(Snapshot):
    """A snapshot with the images that were chosen; of these with all objects, or with some."""

    def __init__(self, snapshot: Snapshot, chosen: dict[tuple[str, ...], frozenset[int] | None]):
        """
        Args:
            chosen: `KEY` of an image -> labels of its objects; None for all.
        """
        vars(self).update(vars(snapshot))
        self._chosen = chosen

    def image_rows(self, latest: bool = True) -> Iterator[Row]:
        """As of any snapshot; `n_objects` counts the objects that were chosen."""
        for row in super().image_rows(latest):
            key = _key(row)
            if key in self._chosen:
                labels = self._chosen[key]
                yield row if labels is None else {**row, "n_objects": len(labels)}

    def object_table(self, image: Row, part: Box | None = None) -> pa.Table:
        rows, labels = super().object_table(image, part), self._chosen[_key(image)]
        if labels is None:
            return rows
        return rows.filter(pc.field("label").isin(pa.array(sorted(labels), pa.int32())))

    def label_image(self, image: Row, part: Box | None = None, level: int = 0) -> Labels:
        """The label image; an object that was not chosen is background there."""
        found, labels = super().label_image(image, part, level), self._chosen[_key(image)]
        if labels is None:
            return found
        return np.where(np.isin(found, sorted(labels)), found, np.zeros((), found.dtype))

    def semantic(self, image: Row, part: Box | None = None, level: int = 0) -> Labels | None:
        """The class image; background outside of the objects that were chosen."""
        classes = super().semantic(image, part, level)
        if classes is None or self._chosen[_key(image)] is None:
            return classes
        return np.where(
            self.label_image(image, part, level) > 0, classes, np.zeros((), classes.dtype)
        )

    def has(self, objects: pa.RecordBatch) -> pa.Array:
        """Which rows of `objects` were chosen."""
        keys = zip(*(objects[name].to_pylist() for name in KEY), strict=True)
        labels = objects["label"].to_pylist()
        chosen = (self._chosen.get(key, frozenset()) for key in keys)
        return pa.array(
            [some is None or label in some for some, label in zip(chosen, labels, strict=True)],
            pa.bool_(),
        )


def select(snapshot: Snapshot, where: str) -> Selection:
    """The images that meet a condition; or, if it names a column of `objects`, these objects.

    Of a condition on objects, images without such an object are left out. It may name `path` and
    `model` too.

    Args:
        where: what stands behind WHERE, in SQL, read-only; `check_condition` says what it may be.

    Raises:
        SpecError: it is no condition, or takes too long.
        StoreError: a table of the store cannot be read.
    """
    with connect() as connection:
        create_views(connection, snapshot)
        level = check_condition(connection, where, _OBJECTS)
    source, labels = ("images", "NULL") if level == "images" else (_OBJECTS, "list(label)")
    answer = query(
        snapshot,
        f"SELECT {', '.join(KEY)}, {labels} AS labels FROM {source} "  # noqa: S608 - checked
        f"WHERE {wrapped(where)} GROUP BY ALL",
        seconds=_SECONDS,
    )
    columns = [answer[name].to_pylist() for name in (*KEY, "labels")]
    chosen = {
        tuple(key): None if some is None else frozenset(some)
        for *key, some in zip(*columns, strict=True)
    }
    return Selection(snapshot, chosen)


def _key(row: Row) -> tuple[str, ...]:
    return tuple(row[name] for name in KEY)
