"""Images whose results changed most: tonight's beside the newest results from before.

Masks are compared object by object, which is too slow for every image of a night. So images are
shortlisted by how much their number of objects changed, and only those are compared.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from segpipe.errors import SegpipeError
from segpipe.report.diff.image import diff_image
from segpipe.report.morning.candidates import Change, Floats, Seen
from segpipe.store.snapshot import Snapshot, is_truth

SHORTLIST = 24
"""Images whose masks are compared."""


def changes_of_count(
    snapshot: Snapshot, since: str, images: pa.Table
) -> tuple[Floats, list[str | None]]:
    """How much the number of objects of each image changed since its newest earlier result.

    Args:
        snapshot: of the whole store.
        since: the night's first run; ids are in the order of time.
        images: `ok` rows, with `image_id` and `n_objects`.

    Returns:
        (N,) the size of the logarithm of the ratio, NaN where there is no such result; and the
        chunk of that result.
    """
    before = snapshot.read(
        "images",
        ["image_id", "chunk_id", "run_id", "n_objects"],
        (ds.field("status") == "ok")
        & (ds.field("run_id") < since)
        & ~is_truth()
        & ds.field("image_id").isin(images["image_id"].combine_chunks()),
    )
    before = before.sort_by([("run_id", "ascending"), ("chunk_id", "ascending")])
    counts = np.full(len(images), np.nan)
    chunks: list[str | None] = [None] * len(images)
    places = pc.index_in(before["image_id"], value_set=images["image_id"].combine_chunks())
    columns = places.to_pylist(), before["chunk_id"].to_pylist(), before["n_objects"].to_pylist()
    for place, chunk_id, count in zip(*columns, strict=True):  # the newest is the last
        counts[place], chunks[place] = count, chunk_id
    now = images["n_objects"].to_numpy().astype(np.float64)
    return np.abs(np.log((now + 1) / (counts + 1))), chunks


def most_changed(snapshot: Snapshot, shortlist: Iterable[Seen], most: int) -> list[Seen]:
    """The images with the most objects lost, gained or changed, each with its `change`."""
    compared = list(_compared(snapshot, shortlist))
    compared.sort(key=lambda image: (-image.change.objects if image.change else 0, image.path))
    return compared[:most]


def _compared(snapshot: Snapshot, shortlist: Iterable[Seen]) -> Iterator[Seen]:
    for image in shortlist:
        if image.before is None:
            continue
        old = snapshot.image_row(image.image_id, image.before)
        new = snapshot.image_row(image.image_id, image.chunk_id)
        try:
            diff = diff_image(snapshot, snapshot, old, new)
        except (SegpipeError, OSError):
            continue  # another size, or masks that are gone: it can be no card of this kind
        change = Change(old["run_id"], len(diff.lost), len(diff.gained), len(diff.changed))
        if change.objects:
            yield replace(image, change=change)
