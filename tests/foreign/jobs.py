"""What each way to look at a large image is given, and what of it is compared."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from segpipe.geometry import Box
from segpipe.records import CroppedMask, DecodedImage, Header, Instances
from segpipe.segmenters.base import PartSegmenter
from segpipe.segmenters.build import build
from segpipe.segmenters.catalog import resolve_model

MODEL = "unet-nuclei"


@dataclass(frozen=True)
class Job:
    """An image, and how it is cut.

    Attributes:
        pixels: (H, W, 1) uint8.
        side: of a slice, pixels.
        overlap: of neighbouring slices, pixels.
        threads: of torch.
    """

    pixels: np.ndarray
    side: int
    overlap: int
    threads: int

    @property
    def shape(self) -> tuple[int, int]:
        return self.pixels.shape[0], self.pixels.shape[1]


@dataclass(frozen=True)
class Way:
    """A way to look at an image.

    Attributes:
        ready: loads the model, and returns what is timed.
        objects: of what that returned.
        slices: of the image.
    """

    ready: Callable[[Job], Callable[[], Any]]
    objects: Callable[[Any], Instances]
    slices: Callable[[Job], list[Box]]


@dataclass(frozen=True)
class Found:
    """What a way found, and what that took.

    Attributes:
        seconds: of the wall clock, and of all cores, from the image to its objects.
        before, peak: bytes of the process when the model was loaded, and at most.
    """

    objects: Instances
    slices: list[Box]
    seconds: float
    core_seconds: float
    before: int
    peak: int


def segmenter_of(job: Job, **asked: object) -> PartSegmenter[Any, Any]:
    """The one model of the comparison, with other keys of a `RunSpec` as asked for."""
    found = resolve_model(MODEL, "a comparison", device="cpu", precision="fp32", **asked)
    return build(found.spec, found.weights_path, job.threads)  # type: ignore[return-value]


def decoded(pixels: np.ndarray) -> DecodedImage:
    """As if (H, W, C) pixels had been read."""
    height, width, channels = pixels.shape
    return DecodedImage(pixels, Header(height, width, channels, pixels.dtype.name, "png", ""), "")


def overlapping(job: Job) -> list[Box]:
    """The slices of supervision and of SAHI: the last ones end with the image."""
    rows, columns = (_starts(length, job.side, job.overlap) for length in job.shape)
    return [Box(y, x, y + job.side, x + job.side).clip(job.shape) for y in rows for x in columns]


def _starts(length: int, side: int, overlap: int) -> list[int]:
    last = max(0, length - side)
    return [*range(0, last, side - overlap), last]


def as_instances(masks: Iterable[np.ndarray], scores: Iterable[float]) -> Instances:
    """Masks (H, W), one after the other, cut to what they hold; the best score first."""
    found = [(score, _crop(mask)) for mask, score in zip(masks, scores, strict=True)]
    kept = sorted((one for one in found if one[1] is not None), key=lambda one: -one[0])
    return Instances(
        tuple(mask for _, mask in kept if mask is not None),
        np.array([score for score, _ in kept], np.float32),
        np.ones(len(kept), np.int32),
        n_discarded=len(found) - len(kept),
    )


def _crop(mask: np.ndarray) -> CroppedMask | None:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return None
    (y0, y1), (x0, x1) = rows[[0, -1]].tolist(), columns[[0, -1]].tolist()
    return CroppedMask(y0, x0, mask[y0 : y1 + 1, x0 : x1 + 1].copy())
