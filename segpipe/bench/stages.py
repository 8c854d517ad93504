"""One image through a model of the R-CNN family, with the time of each part."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from segpipe.records import DecodedImage, Segmentation
from segpipe.segmenters.detectors import DetectorSegmenter
from segpipe.segmenters.rcnn import RCNNSegmenter
from segpipe.segmenters.rpn_probe import watch_rpn

Boxes = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Seconds:
    """Wall-clock time of one image.

    Attributes:
        proposals: where to look: selective search, with the scaling of the pixels before it; or
            the region proposal network, from the features of the backbone on.
        network: everything else on the device.
        rest: everything else.
    """

    proposals: float
    network: float
    rest: float

    @property
    def total(self) -> float:
        return self.proposals + self.network + self.rest


@dataclass(frozen=True, slots=True, eq=False)
class Pass:
    """What one image gave.

    Attributes:
        proposals: (P, 4) x0, y0, x1, y1 in pixels, in the order in which the model takes them.
        found: the model's answer.
    """

    seconds: Seconds
    proposals: Boxes
    found: Segmentation


class Contestant(Protocol):
    """A model of the family."""

    def run(self, image: DecodedImage) -> Pass:
        """All of its three stages, one after the other."""
        ...


class RCNNContestant:
    """R-CNN: the search is in `prepare`."""

    def __init__(self, segmenter: RCNNSegmenter) -> None:
        self._segmenter = segmenter

    def run(self, image: DecodedImage) -> Pass:
        start = time.perf_counter()
        prepared = self._segmenter.prepare(image)
        searched = time.perf_counter()
        (raw,) = self._segmenter.forward([prepared])
        judged = time.perf_counter()
        found = self._segmenter.finish(raw, image)
        seconds = Seconds(searched - start, judged - searched, time.perf_counter() - judged)
        return Pass(seconds, prepared.boxes, found)


class DetectorContestant:
    """Faster and Mask R-CNN: the first stage is in the middle of `forward`."""

    def __init__(self, segmenter: DetectorSegmenter) -> None:
        self._segmenter = segmenter

    def run(self, image: DecodedImage) -> Pass:
        with watch_rpn(self._segmenter.network) as calls:
            start = time.perf_counter()
            prepared = self._segmenter.prepare(image)
            scaled = time.perf_counter()
            (raw,) = self._segmenter.forward([prepared])
            judged = time.perf_counter()
            found = self._segmenter.finish(raw, image)
            end = time.perf_counter()
        proposing = sum(call.seconds for call in calls)
        seconds = Seconds(proposing, judged - scaled - proposing, scaled - start + end - judged)
        height, width = image.header.shape
        shares = calls[-1].boxes[0] if calls else np.empty((0, 4), np.float32)
        return Pass(seconds, shares * np.array([width, height] * 2, np.float32), found)
