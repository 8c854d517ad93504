"""What a store says already of the images of a collection: which are done, which failed."""

from __future__ import annotations

import pyarrow.dataset as ds

from segpipe.planning.chunks import Identities
from segpipe.records import image_identity
from segpipe.store import Snapshot


def done_images(snapshot: Snapshot, spec_id: str) -> Identities:
    """Identities of the images that are committed under a spec, failed ones included."""
    of_spec = ds.field("spec_id") == spec_id
    columns = ["uri", "size_bytes", "mtime_ns", "etag"]
    batches = snapshot.dataset("images").to_batches(columns=columns, filter=of_spec)
    return Identities(
        map(image_identity, *(column.to_pylist() for column in batch.columns)) for batch in batches
    )


def failed_images(snapshot: Snapshot, spec_id: str) -> dict[str, int]:
    """Of the images whose newest result under a spec is a failure: id -> number of results."""
    of_spec = ds.field("spec_id") == spec_id
    columns = ["image_id", "run_id", "status"]
    rows = snapshot.dataset("images").to_table(columns=columns, filter=of_spec)
    newest = rows.group_by("image_id").aggregate([("run_id", "max"), ("status", "count")])
    newest = newest.rename_columns({"run_id_max": "run_id", "status_count": "results"})
    failed = rows.filter(ds.field("status") == "failed").join(newest, ["image_id", "run_id"])
    found = zip(failed["image_id"].to_pylist(), failed["results"].to_pylist(), strict=True)
    return {image_id: results for image_id, results in found if results is not None}
