"""A random sample of a run's images that is the same every time."""

from __future__ import annotations

import heapq
from collections.abc import Iterator

import pyarrow.dataset as ds

from segpipe.errors import SpecError
from segpipe.records import digest
from segpipe.store.damage import named_damage
from segpipe.store.snapshot import Row, Snapshot


def sample_rows(snapshot: Snapshot, run_id: str, count: int, seed: int) -> tuple[int, list[Row]]:
    """How many images a run has, and at most `count` of their rows, ordered by path.

    Those whose digest with the seed is smallest: whatever else is in the store, in whatever order
    its parts lie, the sample is the same. Memory holds `count` of them.

    Raises:
        SpecError: the run has no results here.
    """
    images = snapshot.dataset("images")
    mine = ds.field("run_id") == run_id
    total = 0

    def ranked() -> Iterator[tuple[str, str, str]]:
        nonlocal total
        keys = images.scanner(columns=["image_id", "chunk_id"], filter=mine)
        for batch in keys.to_batches():
            total += batch.num_rows
            for image_id, chunk_id in zip(*(batch[i].to_pylist() for i in (0, 1)), strict=True):
                yield digest("sample", seed, image_id), image_id, chunk_id

    with named_damage(snapshot, "images"):
        chosen = heapq.nsmallest(count, ranked())
    if not chosen:
        raise SpecError(f"no results of run {run_id!r} in this store")
    ids = [image_id for _, image_id, _ in chosen]
    part = snapshot.of_chunks({chunk_id for _, _, chunk_id in chosen})
    rows = part.read("images", where=mine & ds.field("image_id").isin(ids))
    return total, rows.sort_by([("path", "ascending"), ("image_id", "ascending")]).to_pylist()
