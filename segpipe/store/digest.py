"""What a store says, apart from when, by whom and in which chunks it was made.

Two runs of one spec over the same images have the same logical digest, however they were cut,
killed, resumed or spread over workers.
"""

from __future__ import annotations

import hashlib
import json

from segpipe.store.snapshot import Row, Snapshot

_INCIDENTAL = {
    "run_id",
    "chunk_id",
    "mask_array",
    "mask_index",
    "semantic_array",
    "decode_seconds",
    "forward_seconds",
    "finish_seconds",
}


def logical_digest(snapshot: Snapshot) -> str:
    """sha256 over the newest row of every image, its objects, label image and semantic mask."""
    lines = []
    for image in snapshot.image_rows():
        digest = hashlib.sha256(_stable(image))
        if image["status"] == "ok":
            for row in snapshot.objects_of(image):
                digest.update(_stable(row))
            digest.update(snapshot.label_image(image).astype("<u4").tobytes())
            if (semantic := snapshot.semantic(image)) is not None:
                digest.update(semantic.astype("u1").tobytes())
        lines.append(f"{image['image_id']} {digest.hexdigest()}")
    return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()


def _stable(row: Row) -> bytes:
    kept = {key: value for key, value in row.items() if key not in _INCIDENTAL}
    return json.dumps(kept, sort_keys=True).encode()
