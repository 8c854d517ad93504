"""The `Segmenter` protocol: three stages, so that the pipeline can overlap them.

    prepare   one image      host thread     pixels -> what the network takes
    forward   one batch      device          the only stage that touches the device
    finish    one image      host thread     what the network gives -> Segmentation

A batch holds images of one (height, width) only, since batch-mates of other shapes change what
some networks answer. The stages keep no state between images: the same image gives the same
`Segmentation` whatever came before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from segpipe.errors import SegpipeError
from segpipe.records import DecodedImage, Header, Segmentation
from segpipe.spec import Scaling, SegmentSpec

Areas = npt.NDArray[np.int64]
Prepared = TypeVar("Prepared")
Raw = TypeVar("Raw")


class DeviceMemoryError(SegpipeError):
    """A batch does not fit the device's memory; a smaller one may."""


@dataclass(frozen=True, slots=True)
class Footprint:
    """Memory of the host that one image takes besides its pixels, in bytes; never too low.

    Attributes:
        waiting: while it waits between two stages: what `prepare` or `forward` gave of it.
        prepare: at that stage's peak, what it gives included; the same for the others.
        forward: as one image of a batch. A device with memory of its own is not the host.
        finish: what `forward` gave is not counted again.
    """

    waiting: int
    prepare: int
    forward: int
    finish: int


@dataclass(frozen=True, slots=True)
class View:
    """What holds for all parts of an image, so that they fit together.

    Attributes:
        low, high: the values of the pixels that become 0 and 1.
        magnification: at which parts are looked at.
    """

    low: float
    high: float
    magnification: float = 1.0


class Segmenter(Protocol[Prepared, Raw]):
    """A model, loaded on its device.

    `spec` is all that defines what it answers. `prepare` and `finish` are called from other
    threads than `forward` and from several at a time; `forward` from one.
    """

    spec: SegmentSpec

    def footprint(self, header: Header) -> Footprint:
        """What an image with this header will take, before any of its pixels is read."""
        ...

    def prepare(self, image: DecodedImage) -> Prepared:
        """Pixels to what the network takes; pure.

        Raises:
            InputError: this image cannot be segmented by this model (its channels, its size).
        """
        ...

    def forward(self, batch: Sequence[Prepared]) -> Sequence[Raw]:
        """Run the network on images of one shape; answers are in the batch's order.

        Raises:
            DeviceMemoryError: the batch does not fit; nothing was changed.
        """
        ...

    def finish(self, raw: Raw, image: DecodedImage) -> Segmentation:
        """One answer to objects in the image's own pixel frame; pure."""
        ...


class PartSegmenter(Segmenter[Prepared, Raw], Protocol[Prepared, Raw]):
    """A segmenter that can look at a part of an image as it would if it saw all of it.

    `scaling` says which values of the whole image become 0 and 1; None: it does not depend on them.
    """

    scaling: Scaling | None

    def part_footprint(self, header: Header, magnification: float) -> Footprint:
        """As `footprint`, of a part that is looked at in a magnification."""
        ...

    def prepare_part(self, part: DecodedImage, view: View) -> Prepared:
        """As `prepare`, of a part of an image."""
        ...

    def magnification(self, areas: Areas) -> float:
        """At which objects are best looked at, from the areas of some of them, (N,) pixels."""
        ...


class SemanticPartSegmenter(PartSegmenter[Prepared, Raw], Protocol[Prepared, Raw]):
    """One whose parts are classes: they are put together before regions are looked for.

    Connected regions of fewer than `min_area` pixels are no objects.
    """

    min_area: int

    def classes(
        self, raw: Raw, shape: tuple[int, int]
    ) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32]]:
        """(H, W) class of each pixel, and how probable it is."""
        ...
