"""What every image that is read by region offers, and the checks that all of them share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np

from segpipe.errors import BudgetError, InputError, Reason, SpecError
from segpipe.geometry import Box
from segpipe.readers.convert import Samples, as_pixels, stored_box
from segpipe.readers.deadline import Deadline
from segpipe.readers.planes import Extent
from segpipe.readers.structure import check_pixels, corrupt, decoder_errors
from segpipe.records import Header, Pixels


@dataclass(frozen=True, slots=True)
class RegionLimits:
    """What an image that is read by region may cost.

    Attributes:
        max_pixels: height x width of the whole image, which is never in memory.
        max_file_bytes: of its file.
        memory_bytes: of one region; of one strip or tile; of an image whose format knows no parts,
            with its file.
        kept_bytes: of the decoded strips and tiles that are kept for the next region.
        decode_seconds: for one region.
    """

    max_pixels: int = 1 << 34
    max_file_bytes: int = 1 << 40
    memory_bytes: int = 1 << 30
    kept_bytes: int = 1 << 28
    decode_seconds: float = 30.0


@dataclass(frozen=True, slots=True)
class Level:
    """One size of the image.

    Attributes:
        shape: (height, width) in pixels.
        scale: (y, x) pixels of level 0 that one of its pixels stands for, at least 1.
    """

    shape: tuple[int, int]
    scale: tuple[float, float]

    @classmethod
    def of(cls, shape: tuple[int, int], whole: tuple[int, int]) -> Level:
        """A level of an image whose level 0 has the shape `whole`."""
        return cls(shape, (whole[0] / shape[0], whole[1] / shape[1]))


@dataclass(frozen=True, slots=True)
class Georeference:
    """Where on Earth an image lies, as its GeoTIFF tags say; not checked, carried along.

    Attributes:
        affine: (a, b, c, d, e, f), so that the corner of pixel (row, column) lies at
            x = a * column + b * row + c and y = d * column + e * row + f, in units of the system;
            None where the tags give no affine map, or one with rotation by many tie points.
        epsg: code of the coordinate system, or None.
        tags: TIFF tag -> its values, plain JSON.
    """

    affine: tuple[float, float, float, float, float, float] | None
    epsg: int | None
    tags: dict[int, list[Any] | str]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        tags = {str(code): values for code, values in self.tags.items()}
        return {"affine": self.affine, "epsg": self.epsg, "tags": tags}


@dataclass(frozen=True, slots=True, eq=False)
class About:
    """What is known of an image before a region of it is read.

    Attributes:
        header: of the whole image, level 0; more channels than 1 or 3 only where they were asked
            for by number.
        levels: level 0 first, each smaller than the one before.
        extent: planes of the file, of which this image is one.
        georeference: None where there is none.
        any_channels: the channels were chosen by number.
    """

    header: Header
    levels: tuple[Level, ...]
    extent: Extent = field(default_factory=Extent)
    georeference: Georeference | None = None
    any_channels: bool = False


class RegionSource(ABC):
    """An open image; regions may be read from several threads at once.

    Every region equals that of the whole image as `segpipe.readers.Reader` decodes it.

    Attributes:
        name: of the file, for people; it stands before what an error says.
        about: the header, the levels, and what else the file tells.
    """

    def __init__(
        self, name: str, about: About, limits: RegionLimits, orientation: int | None = None
    ) -> None:
        """
        Args:
            orientation: of what `_samples` gives; None for that of the header.
        """
        self.name, self.about, self.limits = name, about, limits
        self._orientation = about.header.orientation if orientation is None else orientation

    @property
    def header(self) -> Header:
        return self.about.header

    @property
    def levels(self) -> tuple[Level, ...]:
        return self.about.levels

    @property
    def pixel_size_um(self) -> tuple[float, float] | None:
        """(y, x) micrometres, of level 0; None where the file does not say."""
        return self.header.pixel_size_um

    @property
    def georeference(self) -> Georeference | None:
        """None also where the pixels do not lie as the tags say: `header.orientation` is not 1."""
        return self.about.georeference if self.header.orientation == 1 else None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def held_bytes(self) -> int:
        """What reading all of level 0 holds at a time besides its pixels, where that is known to be
        more than the parts that they are made of.
        """
        return 0

    def read(self, box: Box, level: int = 0) -> Pixels:
        """(h, w, C) pixels in `box` of a level, in the types of the header, finite.

        Args:
            box: in pixels of the level, inside of it; it may be empty.

        Raises:
            SpecError: there is no such level, or the box reaches beyond it.
            BudgetError: the region takes more than `memory_bytes`.
            InputError: what the region needs is truncated or damaged, or over a limit.
        """
        return self.region(box, level)[0]

    def region(self, box: Box, level: int = 0) -> tuple[Pixels, int]:
        """As `read`, and how many samples were NaN or infinite and are 0 now."""
        header = self.header
        self._check(box, level)
        if box.empty:
            return np.zeros((box.height, box.width, header.channels), header.dtype), 0
        stored = stored_box(box, self.levels[level].shape, self._orientation)
        with errors_of(self.name):
            samples = self._samples(stored, level, Deadline(self.limits.decode_seconds))
            pixels, n_nonfinite = as_pixels(
                samples, self._orientation, any_channels=self.about.any_channels
            )
            if pixels.shape != (box.height, box.width, header.channels):
                raise corrupt(f"a region of {pixels.shape} where {box} is due")
            if pixels.dtype.name != header.dtype:
                raise corrupt(f"pixels of {pixels.dtype} where the header says {header.dtype}")
        return pixels, n_nonfinite

    @abstractmethod
    def close(self) -> None:
        """Close the file; no region is being read."""

    @abstractmethod
    def _samples(self, box: Box, level: int, deadline: Deadline) -> Samples:
        """(h, w, C) as `convert.as_pixels` wants them; `box` is in the frame before it turns."""

    def _check(self, box: Box, level: int) -> None:
        if not 0 <= level < len(self.levels):
            raise SpecError(f"{self.name}: level {level}; it has 0 to {len(self.levels) - 1}")
        shape = self.levels[level].shape
        if not (0 <= box.y0 <= box.y1 <= shape[0] and 0 <= box.x0 <= box.x1 <= shape[1]):
            raise SpecError(f"{self.name}: {box} reaches beyond level {level}, which is {shape}")
        needed = box.area * self.header.channels * np.dtype(self.header.dtype).itemsize
        if needed > self.limits.memory_bytes:
            raise BudgetError(
                f"{self.name}: a region of {box.height:,} x {box.width:,} pixels takes {needed:,}"
                f" bytes; the limit is {self.limits.memory_bytes:,} (memory_bytes)"
            )


def check_size(header: Header, limits: RegionLimits) -> None:
    """
    Raises:
        InputError: an image of no pixels, or of more than `max_pixels`.
    """
    check_pixels(header.shape, limits.max_pixels, "max_pixels")


def check_memory(needed: int, what: str, limits: RegionLimits) -> None:
    """
    Raises:
        InputError: `too_large`: decoding `what` needs more than `memory_bytes`.
    """
    if needed > limits.memory_bytes:
        raise InputError(
            Reason.TOO_LARGE,
            f"{what} takes {needed:,} bytes; the limit is {limits.memory_bytes:,} (memory_bytes)",
        )


@contextmanager
def errors_of(name: str) -> Iterator[None]:
    """As `structure.decoder_errors`, and each error names the file."""
    try:
        with decoder_errors():
            yield
    except InputError as error:
        raise InputError(error.reason, f"{name}: {error.detail}") from error
