"""The model on one slice, as a caller of supervision or SAHI would use it."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from segpipe.large.image import opened
from segpipe.large.overview import look_over
from segpipe.readers import list_collection
from segpipe.readers.regions import RegionLimits
from segpipe.segmenters.base import PartSegmenter, View
from tests.foreign.jobs import Job, decoded, segmenter_of
from tests.parts import keep


class SliceModel:
    """Slices to masks.

    Args:
        view: of the whole image; None: each slice by its own range of values and magnification.
    """

    def __init__(self, segmenter: PartSegmenter[Any, Any], view: View | None) -> None:
        self._segmenter, self._view = segmenter, view

    def __call__(self, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Masks (N, H, W) bool and scores (N,) float32 of a slice (H, W, 3) of equal channels."""
        image = decoded(np.ascontiguousarray(pixels[..., :1]))
        segmenter, view = self._segmenter, self._view
        prepared = segmenter.prepare_part(image, view) if view else segmenter.prepare(image)
        (raw,) = segmenter.forward([prepared])
        found = segmenter.finish(raw, image)
        labels = np.arange(1, found.n_objects + 1, dtype=np.uint32)
        return found.label_image == labels[:, None, None], found.scores


def slice_model(job: Job, by_itself: bool) -> SliceModel:
    """The model, ready.

    Args:
        by_itself: what holds for the whole image is not known to it; else it is what segpipe finds.
    """
    segmenter = segmenter_of(job, limits={"max_pixels": 1}, tiles={"side": job.side})
    return SliceModel(segmenter, None if by_itself else view_of(job, segmenter))


def view_of(job: Job, segmenter: PartSegmenter[Any, Any]) -> View:
    """What segpipe finds for the whole image."""
    with tempfile.TemporaryDirectory() as folder:
        keep(Path(folder), job.pixels)
        (ref,) = list_collection(f"{folder}/images")
        with opened(ref, job.shape, RegionLimits()) as image:
            return look_over(image, segmenter, str).view


def colour(job: Job) -> np.ndarray:
    """(H, W, 3): what supervision and SAHI expect."""
    return np.repeat(job.pixels, 3, axis=2)
