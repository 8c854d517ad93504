"""The images of two sets of results, side by side."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from segpipe.errors import SpecError
from segpipe.query.scratch import scratch
from segpipe.records import first_partition
from segpipe.report.diff.image import ImageDiff, diff_image
from segpipe.store.snapshot import Row, Snapshot

_BATCH = 1024
_COLUMNS = ["run_id", "chunk_id", "image_id", "uri", "path", "size_bytes", "mtime_ns", "etag"]
_COLUMNS += ["sha256", "status", "reason", "detail", "height", "width", "n_objects"]
_COLUMNS += ["mask_array", "mask_index", "semantic_array"]

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
        classes: names that their models know.
    """

    name: str
    run_ids: tuple[str, ...]
    classes: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, eq=False)
class ImagePair:
    """One image in both results.

    Attributes:
        before, after: its rows of `images`; None where a result has no such image.
        diff: None where the two cannot be compared, and `problem` says why.
    """

    before: Row | None
    after: Row | None
    diff: ImageDiff | None = None
    problem: str = ""

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
    newest = re.fullmatch(r"latest(?:~(\d+))?", name)
    if any(_model(record).get("name") == name for record in records):
        return _results(name, [one for one in records if _model(one).get("name") == name])
    if newest:
        back = int(newest[1] or 0)
        found = [runs[-1 - back]] if back < len(runs) else []
    else:
        found = [run for run in runs if run == name] or [r for r in runs if r.startswith(name)]
    if len(found) == 1:
        own = [record for record in records if first_partition(record["run_id"]) == found[0]]
        return _results(found[0], own)
    models = sorted({str(_model(record)["name"]) for record in records if _model(record)})
    if found:
        raise SpecError(f"{name!r} fits {len(found)} runs: {', '.join(found[:5])}; give more of it")
    raise SpecError(
        f"{name!r} is no run of this store, whose newest are {', '.join(runs[-5:]) or 'none'}; nor "
        f"a model with results here: {', '.join(models) or 'none'}; nor `latest`"
    )


def _model(record: Row) -> Mapping[str, Any]:
    found: Mapping[str, Any] = record.get("segment_spec", {}).get("model", {})
    return found


def _results(name: str, records: Iterable[Row]) -> Results:
    chosen = list(records)
    classes = (names for record in chosen for names in _model(record).get("classes", ()))
    return Results(name, tuple(record["run_id"] for record in chosen), frozenset(classes))


def image_pairs(
    snapshot: Snapshot, before: Results, after: Results, iou: float, changed_iou: float
) -> Iterator[ImagePair]:
    """All images that are in either, in the order in which their masks lie.

    Memory does not grow with their number.

    Raises:
        SpecError: one of the two has no results any more.
    """
    compare = partial(
        _compare, snapshot, iou=iou, changed_iou=changed_iou, classes=before.classes & after.classes
    )
    columns = ", ".join(_COLUMNS)
    query = _PAIRS.format(
        before=_NEWEST.format(columns=columns, number=1),
        after=_NEWEST.format(columns=columns, number=2),
    )
    with scratch(snapshot, _COLUMNS) as connection:
        answer = connection.sql(query, params=[list(before.run_ids), list(after.run_ids)])
        for batch in answer.to_arrow_reader(_BATCH):
            for one, other in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                yield compare(_there(one), _there(other))


def _there(row: Row | None) -> Row | None:
    return row if row is not None and row["image_id"] is not None else None


def _compare(
    snapshot: Snapshot, before: Row | None, after: Row | None, **thresholds: Any
) -> ImagePair:
    if before is None or after is None:
        return ImagePair(before, after, problem="only after" if before is None else "only before")
    failed = [w for w, row in (("before", before), ("after", after)) if row["status"] != "ok"]
    if failed:
        return ImagePair(before, after, problem=f"failed {' and '.join(failed)}")
    if (before["height"], before["width"]) != (after["height"], after["width"]):
        return ImagePair(before, after, problem="another size")
    diff = diff_image(snapshot, snapshot, before, after, **thresholds)
    return ImagePair(before, after, diff)
