"""What has to be known of a large image as a whole before any part of it is looked at."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from segpipe.clock import StageClock
from segpipe.items import guarded
from segpipe.large.image import LargeImage
from segpipe.records import DecodedImage, Pixels
from segpipe.segmenters.base import Areas, PartSegmenter, View
from segpipe.segmenters.value_ranges import streamed_range

SAMPLE = 5
"""Tiles whose objects choose the magnification."""


@dataclass(frozen=True, slots=True)
class Overview:
    """What holds for all parts.

    Attributes:
        view: in which they are looked at.
        sha256: of the file.
        n_nonfinite: samples that are NaN or infinite, and read as 0.
        shape: (height, width) of the image.
        stages: stage -> seconds that this took, see `clock`.
    """

    view: View
    sha256: str
    n_nonfinite: int
    shape: tuple[int, int]
    stages: Mapping[str, float]

    def to_bytes(self) -> bytes:
        return json.dumps(asdict(self)).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> Overview:
        """
        Raises:
            ValueError, TypeError, KeyError: these are not the bytes of one.
        """
        values = json.loads(data)
        height, width = values.pop("shape")
        return cls(View(**values.pop("view")), shape=(height, width), **values)


def look_over(
    image: LargeImage, segmenter: PartSegmenter[Any, Any], sha256: Callable[[], str]
) -> Overview:
    """Read all of an image, part by part, and look at a few parts of it.

    Args:
        sha256: of the image's file.

    Raises:
        InputError: a part of it is damaged.
    """
    clock = StageClock()
    whole = _Whole(image)
    with clock.stage("decode"):
        between = (0.0, 1.0)
        if segmenter.scaling is not None:
            dtype = np.dtype(image.header.dtype)
            between = streamed_range(dtype, segmenter.scaling, whole.parts)
        found = sha256(), whole.n_nonfinite
    view = View(*between)
    with clock.stage("preprocess"):
        view = replace(view, magnification=_magnification(image, segmenter, view))
    return Overview(view, *found, image.header.shape, clock.seconds())


class _Whole:
    """All pixels of an image, in parts, as often as they are asked for."""

    def __init__(self, image: LargeImage) -> None:
        self._image = image
        self._n_nonfinite: int | None = None

    def parts(self) -> Iterator[Pixels]:
        found = 0
        for box in self._image.cores():
            part = self._image.part(box)
            found += part.n_nonfinite
            yield part.pixels
        self._n_nonfinite = found

    @property
    def n_nonfinite(self) -> int:
        if np.dtype(self._image.header.dtype).kind != "f":
            return 0
        if self._n_nonfinite is None:
            for _ in self.parts():
                pass
        return self._n_nonfinite or 0


def _magnification(image: LargeImage, segmenter: PartSegmenter[Any, Any], view: View) -> float:
    """By the objects in a few parts, which lie all over the image."""
    largest = image.tiling.largest
    tiny, huge = (segmenter.magnification(np.array([area]), largest) for area in (1, 1 << 40))
    if tiny == huge == 1:
        return 1.0  # whatever there is to see
    numbers = np.unique(np.linspace(0, len(image.tiling) - 1, SAMPLE).astype(int)).tolist()
    parts = (image.part(image.tiling[number].grown) for number in numbers)
    areas = [_areas(part, segmenter, view) for part in parts]
    return segmenter.magnification(np.concatenate(areas), largest)


def _areas(part: DecodedImage, segmenter: PartSegmenter[Any, Any], view: View) -> Areas:
    """Pixels of each object that is found in a part."""
    prepared = guarded(segmenter.prepare_part, part, view)
    (raw,) = guarded(segmenter.forward, [prepared])
    found = guarded(segmenter.finish, raw, part)
    areas = np.bincount(found.label_image.ravel(), minlength=1)[1:]
    return np.asarray(areas[areas > 0], np.int64)
