"""What a store says, apart from when, by whom and in which chunks it was made.

Two runs of one spec over the same images have the same logical digest, however they were cut,
killed, resumed or spread over workers.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from segpipe.geometry import Box
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

_ROWS = 1024
"""Of pixels that are in memory at a time."""


def logical_digest(snapshot: Snapshot) -> str:
    """sha256 over the newest row of every image, its objects, label image and semantic mask."""
    lines = []
    for image in snapshot.image_rows():
        digest = hashlib.sha256(_stable(image))
        if image["status"] == "ok":
            for row in snapshot.each_object(image):
                digest.update(_stable(row))
            for part in _strips(image, snapshot.label_image):
                digest.update(np.ascontiguousarray(part, "<u4").data)
            if image["semantic_array"]:
                for part in _strips(image, snapshot.semantic):
                    digest.update(np.ascontiguousarray(part, "u1").data)
        lines.append(f"{image['image_id']} {digest.hexdigest()}")
    return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()


def _stable(row: Row) -> bytes:
    kept = {key: value for key, value in row.items() if key not in _INCIDENTAL}
    return json.dumps(kept, sort_keys=True).encode()


def _strips(image: Row, mask: Callable[[Row, Box], Any]) -> Iterator[npt.NDArray[Any]]:
    """All rows of a mask, some at a time."""
    shape = image["height"], image["width"]
    for strip in Box(0, 0, *shape).blocks(_ROWS, shape[1]):
        yield mask(image, strip)
