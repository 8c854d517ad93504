"""One pass over the rows of a night: its statistics, and the images that are worth a look.

Chunks are read a few at a time, so that memory does not grow with the night.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from segpipe.provenance.redact import redact_text
from segpipe.provenance.tally import ChunkResult
from segpipe.report.morning.bins import Histogram, whole_numbers
from segpipe.report.morning.candidates import Candidates, Seen
from segpipe.report.morning.changes import SHORTLIST, changes_of_count
from segpipe.report.morning.columns import Column, ColumnCounts, check_columns, join
from segpipe.report.morning.statistics import PER_MILLION, merge_rare
from segpipe.store.snapshot import Snapshot

MAX_ROWS = 1_000_000
"""Rows of images and objects that are in memory at a time, unless one chunk has more."""

MAX_FAILED = 100
"""Failed images that are named one by one."""

_IMAGES = ["image_id", "chunk_id", "path", "status", "reason", "detail"]
_NUMBERS = ["height", "width", "n_objects", "saturated"]
_OBJECTS = ["image_id", "class_name", "area", "area_visible", "score"]


@dataclass(slots=True)
class Collected:
    """What the rows of a night say.

    Attributes:
        images, ok, objects: counted again, row by row.
        failed: the first `MAX_FAILED` that failed.
        absent: chunks that the records name and the store does not show: forgotten, or lost.
        per_image: class -> objects of it in an image.
        columns: that were asked for, class by class.
    """

    candidates: Candidates
    images: int = 0
    ok: int = 0
    objects: int = 0
    empty: int = 0
    saturated: int = 0
    absent: int = 0
    objects_per_image: Histogram = field(default_factory=whole_numbers)
    foreground: Histogram = field(default_factory=whole_numbers)
    area: dict[str, Histogram] = field(default_factory=dict)
    score: dict[str, Histogram] = field(default_factory=dict)
    failures: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    failed: list[Seen] = field(default_factory=list)
    per_image: dict[str, Histogram] = field(default_factory=dict)
    columns: list[Column] = field(default_factory=list)


def collect(
    snapshot: Snapshot,
    chunks: Iterable[ChunkResult],
    seed: int = 0,
    columns: Sequence[str] = (),
    since: str | None = None,
) -> Collected:
    """Read the rows of these chunks, once.

    Args:
        seed: of the random images.
        columns: of `objects`, measured numbers, to be counted class by class too.
        since: the night's first run; images are compared with what earlier runs found in them.

    Raises:
        SpecError: there is no such column.
    """
    check_columns(columns)
    found = Collected(Candidates(seed, SHORTLIST))
    counted = ColumnCounts(columns)
    sizes = {chunk.chunk_id: chunk.images + chunk.objects for chunk in chunks}
    tonight = snapshot.of_chunks(sizes)
    found.absent = len(sizes) - len(tonight.chunk_ids)
    for group in _groups({chunk_id: sizes[chunk_id] for chunk_id in tonight.chunk_ids}):
        part = tonight.of_chunks(group)
        images = part.read("images", _IMAGES + _NUMBERS)
        _add_failed(found, images.filter(ds.field("status") == "failed"))
        ok = images.filter(ds.field("status") == "ok")
        if len(ok):
            seen = _add_ok(found, ok, part, counted)
        if since and len(ok) and len(snapshot.chunk_ids) > len(tonight.chunk_ids):
            change, before = changes_of_count(snapshot, since, ok)
            found.candidates.offer_changed(change, partial(_seen_before, seen, before))
        found.images += len(images)
    found.area = merge_rare("whole", found.area)
    found.score = merge_rare("unit", found.score)
    found.per_image, found.columns = counted.per_image(), counted.columns()
    return found


def _groups(sizes: dict[str, int]) -> Iterator[list[str]]:
    group: list[str] = []
    rows = 0
    for chunk_id, size in sizes.items():
        if group and rows + size > MAX_ROWS:
            yield group
            group, rows = [], 0
        group.append(chunk_id)
        rows += size
    if group:
        yield group


def _add_failed(found: Collected, images: pa.Table) -> None:
    for row in pc.value_counts(images["reason"]).to_pylist():
        found.failures[row["values"]] += row["counts"]
    # Some of each reason are enough for the candidates, and the first of all for the table.
    first = images.slice(0, MAX_FAILED - len(found.failed))
    found.failed += [_failed(row) for row in first.select(_IMAGES).to_pylist()]
    for reason in pc.unique(images["reason"]).to_pylist():
        some = images.filter(pc.field("reason") == reason).slice(0, 4).select(_IMAGES)
        found.candidates.offer_failed(_failed(row) for row in some.to_pylist())


def _failed(row: dict[str, Any]) -> Seen:
    detail = redact_text(row["detail"] or "")
    return Seen(row["image_id"], row["chunk_id"], row["path"], row["reason"], detail)


def _add_ok(
    found: Collected, images: pa.Table, part: Snapshot, counted: ColumnCounts
) -> Callable[[int], Seen]:
    """Count images that are ok, and their objects.

    Returns:
        What is to be told of the image of a row.
    """
    columns = [*_OBJECTS, *(name for name in counted.names if name not in _OBJECTS)]
    objects = part.read("objects", columns)
    owners = pc.index_in(objects["image_id"], value_set=images["image_id"].combine_chunks())
    owner = owners.fill_null(-1).to_numpy().astype(np.int64)
    # null becomes NaN; rounding may have led out of 0..1
    score = np.clip(objects["score"].to_numpy().astype(np.float64), 0, 1)
    counts = images["n_objects"].to_numpy().astype(np.int64)
    pixels = images["height"].to_numpy().astype(np.float64) * images["width"].to_numpy()
    visible = np.zeros(len(images))
    np.add.at(visible, owner[owner >= 0], objects["area_visible"].to_numpy()[owner >= 0])
    foreground = np.minimum(visible / pixels, 1.0) * PER_MILLION
    saturated = images["saturated"].fill_null(False).to_numpy(zero_copy_only=False)
    medians = _medians(owner, score, len(images))

    found.ok += len(images)
    found.objects += len(objects)
    found.empty += int(np.count_nonzero(counts == 0))
    found.saturated += int(np.count_nonzero(saturated))
    _join(found, "objects_per_image", Histogram.of("whole", counts))
    _join(found, "foreground", Histogram.of("whole", np.rint(foreground)))
    names = objects["class_name"].fill_null("").combine_chunks().dictionary_encode()
    codes, classes = names.indices.to_numpy(), names.dictionary.to_pylist()
    area = objects["area"].to_numpy()
    for code, name in enumerate(classes):
        join(found.area, name, "whole", area[codes == code])
        join(found.score, name, "unit", score[codes == code])
    counted.add(objects, owner, codes, classes, len(images))

    keys = images.select(["image_id", "chunk_id", "path"])

    def seen(place: int) -> Seen:
        (row,) = keys.slice(place, 1).to_pylist()
        median = None if np.isnan(medians[place]) else float(medians[place])
        return Seen(
            **row, objects=int(counts[place]), score=median, foreground=float(foreground[place])
        )

    found.candidates.offer(counts.astype(np.float64), medians, foreground, saturated, seen)
    return seen


def _seen_before(seen: Callable[[int], Seen], before: Sequence[str | None], place: int) -> Seen:
    return replace(seen(place), before=before[place])


def _join(found: Collected, name: str, part: Histogram) -> None:
    setattr(found, name, Histogram.sum(part.scale, [getattr(found, name), part]))


def _medians(
    owner: npt.NDArray[np.int64], values: npt.NDArray[np.float64], count: int
) -> npt.NDArray[np.float64]:
    """(count,): the median of the values of each owner; NaN where there are none."""
    known = (owner >= 0) & np.isfinite(values)
    owner, values = owner[known], values[known]
    order = np.lexsort((values, owner))
    owner, values = owner[order], values[order]
    sizes = np.bincount(owner, minlength=count)
    starts = np.cumsum(sizes) - sizes
    medians = np.full(count, np.nan)
    has = sizes > 0
    low = values[(starts + (sizes - 1) // 2)[has]]
    high = values[(starts + sizes // 2)[has]]
    medians[has] = (low + high) / 2
    return medians
