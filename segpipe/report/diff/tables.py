"""A comparison as Parquet: a row per object, one per image, and one per class of an image."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from segpipe.errors import SpecError
from segpipe.report.diff.classes import mean_dice
from segpipe.report.diff.runs import ImagePair
from segpipe.store.snapshot import Row, Snapshot

_TWICE = (
    ("label", pa.int32()),
    ("class_name", pa.string()),
    ("score", pa.float32()),
    ("area", pa.int64()),
)
"""Columns of `objects` that are there twice, as `label_before` and `label_after`."""

OBJECTS = pa.schema(
    [
        ("image_id", pa.string()),
        ("path", pa.string()),
        ("kind", pa.string()),  # same, changed, lost, gained
        ("iou", pa.float64()),
        *((f"{name}_{when}", kind) for when in ("before", "after") for name, kind in _TWICE),
    ]
)
IMAGES = pa.schema(
    [
        ("image_id", pa.string()),
        ("path", pa.string()),
        ("problem", pa.string()),  # why it was not compared; null where it was
        *((name, pa.int32()) for name in ("same", "changed", "lost", "gained")),
        ("dice", pa.float64()),  # mean over its classes; null where there are none
    ]
)
CLASSES = pa.schema(
    [
        ("image_id", pa.string()),
        ("path", pa.string()),
        ("class_name", pa.string()),
        ("dice", pa.float64()),  # null where the class is in neither
        *((f"pixels_{name}", pa.int64()) for name in ("before", "after", "common")),
    ]
)
SCHEMAS = {"objects": OBJECTS, "images": IMAGES, "classes": CLASSES}
_BUFFERED = 65_536


@contextmanager
def diff_tables(out: Path, snapshot: Snapshot) -> Iterator[DiffTables]:
    """Write `objects.parquet`, `images.parquet` and `classes.parquet` into the folder `out`.

    They are whole when the block has ended well, and are not there otherwise.

    Raises:
        SpecError: they cannot be written.
    """
    paths = {name: out / f"{name}.parquet" for name in SCHEMAS}
    partial = {name: path.with_name(f".{path.name}.partial") for name, path in paths.items()}
    try:
        out.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            writers = {
                name: stack.enter_context(pq.ParquetWriter(path, SCHEMAS[name], compression="zstd"))
                for name, path in partial.items()
            }
            tables = DiffTables(snapshot, writers)
            yield tables
            tables.flush()
        for name, path in paths.items():
            partial[name].replace(path)
    except OSError as error:
        raise SpecError(f"{error.filename or out}: not written: {error.strerror}") from error
    finally:
        for path in partial.values():
            path.unlink(missing_ok=True)


class DiffTables:
    """Takes image after image; holds a bounded number of rows."""

    def __init__(self, snapshot: Snapshot, writers: Mapping[str, pq.ParquetWriter]) -> None:
        self._snapshot = snapshot
        self._writers = writers
        self._rows: dict[str, list[Row]] = {name: [] for name in writers}

    def add(self, pair: ImagePair) -> None:
        about, diff = pair.about, pair.diff
        image: Row = {"image_id": about["image_id"], "path": about["path"]}
        if diff is None:
            self._rows["images"].append({**image, "problem": pair.problem})
            return
        counts = {
            "same": len(diff.pairs) - len(diff.changed),
            "changed": len(diff.changed),
            "lost": len(diff.lost),
            "gained": len(diff.gained),
        }
        self._rows["images"].append({**image, **counts, "dice": mean_dice(pair.classes)})
        self._rows["classes"] += ({**image, **one.to_dict()} for one in pair.classes)
        for row in self._object_rows(pair):
            self._rows["objects"].append({**image, **row})
            if len(self._rows["objects"]) > _BUFFERED:
                self.flush()
        if sum(map(len, self._rows.values())) > _BUFFERED:
            self.flush()

    def flush(self) -> None:
        for name, writer in self._writers.items():
            if rows := self._rows[name]:
                writer.write_table(pa.Table.from_pylist(rows, writer.schema))
            self._rows[name] = []

    def _object_rows(self, pair: ImagePair) -> Iterator[Row]:
        diff, before, after = pair.diff, self._by_label(pair.before), self._by_label(pair.after)
        assert diff is not None
        changed = set(diff.changed)
        for label, other, iou in diff.pairs:
            kind = "changed" if other in changed else "same"
            yield {"kind": kind, "iou": iou, **_told(before[label], "before")} | _told(
                after[other], "after"
            )
        yield from ({"kind": "lost", **_told(before[label], "before")} for label in diff.lost)
        yield from ({"kind": "gained", **_told(after[label], "after")} for label in diff.gained)

    def _by_label(self, image: Row | None) -> dict[int, Row]:
        assert image is not None
        rows = self._snapshot.object_table(image).select([name for name, _ in _TWICE]).to_pylist()
        return {row["label"]: row for row in rows}


def _told(row: Row, when: str) -> dict[str, Any]:
    return {f"{name}_{when}": row[name] for name, _ in _TWICE}
