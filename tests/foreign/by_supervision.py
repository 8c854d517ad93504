"""supervision's `InferenceSlicer`."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from tests.foreign.jobs import Job, Way, as_instances, overlapping
from tests.foreign.slice_model import colour, slice_model


def way(by_itself: bool = False, **options: object) -> Way:
    """The slicer with options of its own; see `slice_model` for `by_itself`."""
    return Way(partial(_ready, by_itself=by_itself, options=options), _objects, overlapping)


def _ready(job: Job, by_itself: bool, options: dict[str, Any]) -> Any:
    import supervision

    model = slice_model(job, by_itself)

    def look_at(pixels: np.ndarray) -> Any:
        masks, scores = model(pixels)
        if not len(masks):
            return supervision.Detections.empty()
        boxes, classes = supervision.mask_to_xyxy(masks), np.zeros(len(masks), int)
        return supervision.Detections(boxes, masks, scores, classes)

    slicer = supervision.InferenceSlicer(
        look_at, slice_wh=job.side, overlap_wh=job.overlap, **options
    )
    return partial(slicer, colour(job))


def _objects(found: Any) -> Any:
    return as_instances([] if found.mask is None else found.mask, found.confidence)
