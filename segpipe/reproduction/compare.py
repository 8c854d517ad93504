"""Two results of the same bytes under the same spec: are they the same, and if not, by how much."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from segpipe.report.diff import diff_image
from segpipe.schema import OBJECTS
from segpipe.store.pyramids import blocks
from segpipe.store.snapshot import Row, Snapshot

Outcome = Literal["identical", "within tolerance", "different"]

_KEYS = {"run_id", "spec_id", "chunk_id", "image_id", "label", "mask_array", "mask_index", "rle"}
_AT_ONCE = 1024
"""Pairs of objects."""

Partners = tuple[int, int, float]
"""Index of an object then, and now, and the IoU of their masks."""

COMPARED = tuple(column.name for column in OBJECTS if column.name not in _KEYS)
"""Columns of `objects` that say something of the object itself."""


@dataclass(frozen=True, slots=True)
class Difference:
    """How a column differs between objects that are the same one.

    Attributes:
        objects: in which it differs.
        largest: absolute difference; None where it is not between two numbers.
        relative: the largest of |a - b| / max(1, |a|, |b|); infinite differences are None.
    """

    objects: int
    largest: float | None
    relative: float | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """One image, then and now.

    Attributes:
        pixels: whose label or class differs; None where one of the results has none.
        pairs, lost, gained: objects that are in both, only in the stored result, only in the new.
        smallest_iou: of a pair; 1 where the label images are equal.
        columns: that differ, by name.
        detail: for people; empty where the results are identical.
    """

    path: str
    image_id: str
    outcome: Outcome
    pixels: int | None = 0
    pairs: int = 0
    lost: int = 0
    gained: int = 0
    smallest_iou: float = 1.0
    columns: Mapping[str, Difference] | None = None
    detail: str = ""


def compare_image(
    before: Snapshot, after: Snapshot, then: Row, now: Row, tolerance: float = 0.0
) -> Comparison:
    """Compare two results of one image.

    Args:
        before, after: where they are.
        then, now: rows of `images`.
        tolerance: what is `within tolerance`: every object has a partner of its class with an IoU
            of at least `1 - tolerance`, no measured column differs by more than
            `tolerance * max(1, |a|, |b|)`, and no more than that share of the pixels differs in
            class. 0: nothing but identity.
    """
    about = {"path": then["path"], "image_id": then["image_id"]}
    if unlike := _unlike(then, now):
        return Comparison(**about, outcome="different", pixels=None, detail=unlike)
    if then["status"] != "ok":
        return Comparison(**about, outcome="identical", pixels=None, detail="fails as it did")
    size = then["height"] * then["width"]
    labels, classes, pixels = _pixels(before, after, then, now)
    tables = before.object_table(then), after.object_table(now)
    partners = _partners(before, after, then, now, tables, bool(labels))
    columns = _columns(_rows(tables, partners))
    lost, gained = (len(objects) - len(partners) for objects in tables)
    smallest = min((iou for _, _, iou in partners), default=1.0)
    apart = max(1 - smallest, classes / size)
    sizes = [found.relative for found in columns.values()]
    close = not lost and not gained and apart <= tolerance
    close = close and all(size is not None and size <= tolerance for size in sizes)
    identical = close and not pixels and smallest == 1 and not columns
    return Comparison(
        **about,
        outcome="identical" if identical else "within tolerance" if close else "different",
        pixels=pixels,
        pairs=len(partners),
        lost=lost,
        gained=gained,
        smallest_iou=smallest,
        columns=columns,
        detail="" if identical else _told(pixels, size, lost, gained, columns),
    )


def _unlike(then: Row, now: Row) -> str:
    """How two rows differ so much that there is nothing more to compare; empty if they do not."""
    for told in (("status", "reason"), ("height", "width"), ("n_frames", "channels", "dtype")):
        values = [tuple(row[name] for name in told) for row in (then, now)]
        if values[0] != values[1]:
            return f"{', '.join(told)}: {values[0]} then, {values[1]} now"
    return ""


def _pixels(before: Snapshot, after: Snapshot, then: Row, now: Row) -> tuple[int, int, int]:
    """Pixels whose label differs, whose class does (none where a result has none), and either."""
    labels = classes = either = 0
    per_pixel = then["semantic_array"] and now["semantic_array"]
    for block in blocks((then["height"], then["width"])):
        other = before.label_image(then, block) != after.label_image(now, block)
        labels += int(np.count_nonzero(other))
        if per_pixel:
            of_class = before.semantic(then, block) != after.semantic(now, block)
            classes += int(np.count_nonzero(of_class))
            other |= of_class
        either += int(np.count_nonzero(other))
    return labels, classes, either


def _partners(
    before: Snapshot,
    after: Snapshot,
    then: Row,
    now: Row,
    tables: tuple[pa.Table, pa.Table],
    labels_differ: bool,
) -> list[Partners]:
    """Objects that are the same one.

    Where every pixel and every hidden mask is the same, the labels tell; elsewhere the IoU.
    """
    masks = [table.select(["label", "rle"]) for table in tables]
    if not labels_differ and masks[0].equals(masks[1]):
        return [(index, index, 1.0) for index in range(len(tables[0]))]
    place = [{label: i for i, label in enumerate(t["label"].to_pylist())} for t in tables]
    pairs = diff_image(before, after, then, now).pairs
    return [(place[0][one], place[1][other], iou) for one, other, iou in pairs]


def _rows(
    tables: tuple[pa.Table, pa.Table], partners: Sequence[Partners]
) -> Iterator[tuple[Row, Row]]:
    """Their rows, some in memory at a time."""
    for start in range(0, len(partners), _AT_ONCE):
        some = partners[start : start + _AT_ONCE]
        one = tables[0].take([i for i, _, _ in some]).to_pylist()
        yield from zip(one, tables[1].take([j for _, j, _ in some]).to_pylist(), strict=True)


def _columns(partners: Iterable[tuple[Row, Row]]) -> dict[str, Difference]:
    """Of each column that differs, over all pairs."""
    found: dict[str, Difference] = {}
    for one, other in partners:
        for name in COMPARED:
            if one[name] == other[name]:
                continue
            before = found.get(name, Difference(0, 0.0, 0.0))
            size = _size(one[name], other[name])
            found[name] = Difference(
                before.objects + 1,
                *(
                    None if new is None or old is None else max(new, old)
                    for new, old in zip(size, (before.largest, before.relative), strict=True)
                ),
            )
    return found


def _size(one: Any, other: Any) -> tuple[float | None, float | None]:
    """Absolute and relative difference of two values, or of two lists of as many numbers."""
    ones, others = (value if isinstance(value, list) else [value] for value in (one, other))
    numbers = all(
        isinstance(value, (int, float)) and not isinstance(value, bool)
        for value in (*ones, *others)
    )
    if not numbers or len(ones) != len(others):
        return None, None
    pairs = list(zip(ones, others, strict=True))
    absolute = max(abs(a - b) for a, b in pairs)
    relative = max(abs(a - b) / max(1, abs(a), abs(b)) for a, b in pairs)
    return (absolute, relative) if math.isfinite(absolute) else (None, None)


def _told(pixels: int, size: int, lost: int, gained: int, columns: Mapping[str, Difference]) -> str:
    parts = [f"{pixels:,} of {size:,} pixels differ"] if pixels else []
    parts += [
        f"{count} objects {what}" for count, what in ((lost, "lost"), (gained, "gained")) if count
    ]
    parts += [
        f"{name} by up to {one.largest:g}" if one.largest is not None else f"{name} differs"
        for name, one in columns.items()
    ]
    return "; ".join(parts)
