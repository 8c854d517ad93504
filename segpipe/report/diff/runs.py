"""The images of two sets of results, side by side."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pyarrow as pa

from segpipe.errors import SpecError
from segpipe.progress import Observer, watched
from segpipe.provenance.runs import named_run
from segpipe.query.scratch import scratch
from segpipe.records import first_partition
from segpipe.report.diff.classes import ClassDice, Classes, compare_classes, mean_dice
from segpipe.report.diff.image import ImageDiff, diff_image
from segpipe.store.pyramids import blocks
from segpipe.store.snapshot import Row, Snapshot

_BATCH = 1024
_COLUMNS = ["run_id", "chunk_id", "image_id", "uri", "path", "size_bytes", "mtime_ns", "etag"]
_COLUMNS += ["sha256", "status", "reason", "detail", "height", "width", "n_objects"]
_COLUMNS += ["channels", "dtype", "mask_array", "mask_index", "semantic_array"]

# In the order of the masks, so that each of their files is read once.
_PAIRS = """
WITH before AS ({before}), after AS ({after})
SELECT before AS before, after AS after FROM before FULL JOIN after USING (image_id)
ORDER BY coalesce(before.mask_array, after.mask_array),
         coalesce(before.mask_index, after.mask_index), image_id
"""
_NEWEST = """
SELECT {columns} FROM images WHERE run_id IN (SELECT unnest(${number}))
QUALIFY row_number() OVER (PARTITION BY image_id ORDER BY run_id DESC, chunk_id DESC) = 1
"""


@dataclass(frozen=True, slots=True)
class Results:
    """Results that can be compared with others: of a run, of a night in parts, of a model.

    Attributes:
        name: as it was asked for, or found.
        run_ids: whose results they are; the newest result of an image counts.
        names: run -> the classes that its model knows, by class id.
        per_pixel: the models give a class to each pixel.
    """

    name: str
    run_ids: tuple[str, ...]
    names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    per_pixel: bool = False

    @property
    def classes(self) -> frozenset[str]:
        """Names that their models know."""
        return frozenset(name for names in self.names.values() for name in names)


def shared_classes(before: Results, after: Results) -> tuple[str, ...]:
    """Classes whose pixels can be compared: of two models for pixels what both know, by name."""
    if not (before.per_pixel and after.per_pixel):
        return ()
    foreground = (
        {name for names in one.names.values() for name in names[1:]} for one in (before, after)
    )
    return tuple(sorted(set.intersection(*foreground)))


@dataclass(frozen=True, slots=True, eq=False)
class ImagePair:
    """One image in both results.

    Attributes:
        before, after: its rows of `images`; None where a result has no such image.
        diff: None where the two cannot be compared, and `problem` says why.
        classes: of a class per pixel, the pixels of `shared_classes`, in their order.
    """

    before: Row | None
    after: Row | None
    diff: ImageDiff | None = None
    problem: str = ""
    classes: tuple[ClassDice, ...] = ()

    @property
    def about(self) -> Row:
        """The newer row that there is."""
        row = self.after or self.before
        assert row is not None
        return row

    @property
    def differences(self) -> int:
        """Objects that are lost, gained or changed."""
        one = self.diff
        return 0 if one is None else len(one.lost) + len(one.gained) + len(one.changed)

    @property
    def rank(self) -> tuple[int, float, str]:
        """Sorts the images that differ most to the front: by objects, then by pixels of classes."""
        dice = mean_dice(self.classes)
        return -self.differences, 1.0 if dice is None else dice, self.about["path"]


def find_results(snapshot: Snapshot, name: str, records: Iterable[Row] | None = None) -> Results:
    """What a person calls the results of a run.

    Args:
        name: a run's id or the beginning of one, of which all partitions are meant; `latest`, or
            `latest~1` for the run before; or a model's name, for its newest result of each image.
        records: what `snapshot.records` returned, if that is known already.

    Raises:
        SpecError: it is none of these, or fits several runs.
    """
    known = snapshot.records() if records is None else records
    records = [record for record in known if record["status"] != "forgotten"]
    runs = list(dict.fromkeys(first_partition(record["run_id"]) for record in records))
    if any(_model(record).get("name") == name for record in records):
        return _results(name, [one for one in records if _model(one).get("name") == name])
    if found := named_run(runs, name):
        own = [record for record in records if first_partition(record["run_id"]) == found]
        return _results(found, own)
    models = sorted({str(_model(record)["name"]) for record in records if _model(record)})
    raise SpecError(
        f"{name!r} is no run of this store, whose newest are {', '.join(runs[-5:]) or 'none'}; nor "
        f"a model with results here: {', '.join(models) or 'none'}; nor `latest`"
    )


def _model(record: Row) -> Mapping[str, Any]:
    found: Mapping[str, Any] = record.get("segment_spec", {}).get("model", {})
    return found


def _results(name: str, records: Iterable[Row]) -> Results:
    chosen = list(records)
    names = {one["run_id"]: tuple(_model(one).get("classes", ())) for one in chosen}
    tasks = {_model(one).get("task") for one in chosen}
    return Results(name, tuple(names), names, per_pixel=tasks == {"semantic"})


def image_pairs(
    snapshot: Snapshot,
    before: Results,
    after: Results,
    iou: float,
    changed_iou: float,
    observe: Observer | None = None,
) -> Iterator[ImagePair]:
    """All images that are in either, in the order in which their masks lie.

    Memory does not grow with their number.

    Args:
        observe: hears after each image where the work stands.

    Raises:
        SpecError: one of the two has no results any more.
    """
    compare = _Comparison(snapshot, before, after, iou, changed_iou)
    columns = ", ".join(_COLUMNS)
    query = _PAIRS.format(
        before=_NEWEST.format(columns=columns, number=1),
        after=_NEWEST.format(columns=columns, number=2),
    )
    with scratch(snapshot, _COLUMNS) as connection:
        runs = [list(before.run_ids), list(after.run_ids)]
        counting = f"SELECT count(*) FROM ({query})"  # noqa: S608 - ours
        ((count,),) = connection.sql(counting, params=runs).fetchall()
        reader = connection.sql(query, params=runs).to_arrow_reader(_BATCH)
        for rows in watched(_rows(reader), count, observe):
            yield compare(*rows)


def _rows(reader: pa.RecordBatchReader) -> Iterator[tuple[Row | None, Row | None]]:
    for batch in reader:
        for one, other in zip(*(column.to_pylist() for column in batch.columns), strict=True):
            yield _there(one), _there(other)


def _there(row: Row | None) -> Row | None:
    return row if row is not None and row["image_id"] is not None else None


class _Comparison:
    """Compares the two rows of an image."""

    def __init__(
        self, snapshot: Snapshot, before: Results, after: Results, iou: float, changed_iou: float
    ) -> None:
        self._snapshot = snapshot
        self._diff = partial(
            diff_image, snapshot, snapshot,
            iou=iou, changed_iou=changed_iou, classes=before.classes & after.classes,
        )  # fmt: skip
        self._names = {**before.names, **after.names}
        self._shared = shared_classes(before, after)

    def __call__(self, before: Row | None, after: Row | None) -> ImagePair:
        if before is None or after is None:
            alone = "only after" if before is None else "only before"
            return ImagePair(before, after, problem=alone)
        failed = [w for w, row in (("before", before), ("after", after)) if row["status"] != "ok"]
        if failed:
            return ImagePair(before, after, problem=f"failed {' and '.join(failed)}")
        if (before["height"], before["width"]) != (after["height"], after["width"]):
            return ImagePair(before, after, problem="another size")
        diff = self._diff(before, after)
        return ImagePair(before, after, diff, classes=tuple(self._classes(before, after)))

    def _classes(self, before: Row, after: Row) -> list[ClassDice]:
        if not (self._shared and before["semantic_array"] and after["semantic_array"]):
            return []
        known = self._names[before["run_id"]], self._names[after["run_id"]]
        return compare_classes(self._class_images(before, after), known, self._shared)

    def _class_images(self, before: Row, after: Row) -> Iterator[tuple[Classes, Classes]]:
        for block in blocks((before["height"], before["width"])):
            one, other = (self._snapshot.semantic(row, block) for row in (before, after))
            assert one is not None
            assert other is not None
            yield one, other
