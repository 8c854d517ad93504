"""Images that have results and are gone from their place: marked, never erased.

A run that lists a whole place (a folder, an archive) writes down which images of the store it did
not find there. What the newest such run of a place says, holds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from segpipe.store.files import Files
from segpipe.store.layout import run_file

SCHEMA = pa.schema(
    [
        ("image_id", pa.string()),
        ("uri", pa.string()),
        ("path", pa.string()),
        ("since", pa.string()),
    ]
)
"""`since`: the run that noticed first."""


def missing_images(
    files: Files, records: Iterable[Mapping[str, Any]], place: str | None = None
) -> pa.Table:
    """What the newest run that listed a place did not find there.

    Args:
        records: of all runs, oldest first.
        place: None for all places.
    """
    # A later partition of a run does not say what was missing, nor does a run that still plans.
    told = [one for one in records if one.get("plan", {}).get("missing") is not None]
    newest = {one["plan"]["place"]: one for one in told}
    asked = [one for at, one in newest.items() if place in (None, at) and one["plan"]["missing"]]
    tables = [
        pq.read_table(_path(one["run_id"]), filesystem=files.arrow(), schema=SCHEMA)
        for one in asked
    ]
    return pa.concat_tables([SCHEMA.empty_table(), *tables])


def write_missing(
    files: Files, run_id: str, found: Iterable[pa.RecordBatch], before: pa.Table
) -> int:
    """Write down what a run did not find; nothing where nothing is missing.

    Args:
        found: batches with all columns but `since`.
        before: what was known to be missing, for `since`.

    Returns:
        How many images.
    """
    batches = (batch for batch in found if len(batch))
    first = next(batches, None)
    if first is None:
        return 0
    images = 0
    with files.stream(_path(run_id)) as sink, pq.ParquetWriter(sink, SCHEMA) as writer:
        for batch in (first, *batches):
            known = pc.index_in(batch["image_id"], before["image_id"])
            since = pc.coalesce(pc.take(before["since"], known), pa.scalar(run_id))
            columns = [*(batch[name] for name in SCHEMA.names[:-1]), since]
            writer.write_table(pa.table(columns, schema=SCHEMA))
            images += len(batch)
    return images


def _path(run_id: str) -> str:
    return run_file(run_id, "missing.parquet")
