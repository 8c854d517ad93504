"""The row of one result of an image, where its chunk is known."""

from __future__ import annotations

import pyarrow.dataset as ds

from segpipe.errors import SpecError
from segpipe.store.snapshot import Row, Snapshot


def image_row(snapshot: Snapshot, image_id: str, chunk_id: str) -> Row:
    """The row of `images` that a chunk has of an image, a truth's too.

    Raises:
        SpecError: the snapshot has no such chunk, or the chunk no such image.
        StoreError: the chunk's part is damaged.
    """
    own = snapshot.of_chunks([chunk_id])
    rows = own.read("images", where=ds.field("image_id") == image_id).to_pylist()
    if not rows:
        raise SpecError(
            f"{snapshot.files.address}: no result of image {image_id[:80]!r} in chunk {chunk_id}; "
            "it may have been forgotten since: look again"
        )
    return dict(rows[0])
