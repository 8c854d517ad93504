"""A plane, or an OME-Zarr, as runs read images: whole, as one region, within the limits of a run.

Where this runs is the caller's choice, as it is of `decode`.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np

from segpipe.errors import InputError, Reason
from segpipe.geometry import Box
from segpipe.readers.deadline import Deadline
from segpipe.readers.decode import Decoded, pixel_bytes
from segpipe.readers.planes import Plane, parse_plane, split_plane
from segpipe.readers.regions.ome_zarr import OmeZarrSource, open_ome_zarr
from segpipe.readers.regions.opening import open_content
from segpipe.readers.regions.shared_file import SharedFile
from segpipe.readers.regions.source import RegionLimits, RegionSource
from segpipe.readers.structure import bounded
from segpipe.readers.zarr_folder import folder_of, is_ome_zarr, no_image
from segpipe.records import Header, ImageRef, Pixels
from segpipe.spec import Limits


@dataclass(frozen=True, slots=True)
class Address:
    """What of a file, or which folder, is one image.

    Attributes:
        folder: path of an OME-Zarr; None for a plane of a file, whose bytes are given.
        plane: None for the first one.
        name: for people.
    """

    folder: str | None
    plane: Plane | None
    name: str = ""

    @classmethod
    def of(cls, ref: ImageRef) -> Address | None:
        """None for a file that is read as it is.

        Raises:
            InputError: the fragment of its uri names no plane.
        """
        uri, plane = split_plane(ref.uri)
        folder = folder_of(uri)
        return None if folder is None and plane is None else cls(folder, plane, ref.path)

    def to_json(self) -> bytes:
        """One line, for another process of this machine."""
        return json.dumps([self.folder, self.fragment[1:], self.name]).encode()

    @classmethod
    def from_json(cls, line: bytes) -> Address:
        folder, fragment, name = json.loads(line)
        return cls(folder, parse_plane(fragment) if fragment else None, name)

    @property
    def fragment(self) -> str:
        """Empty where no plane is named."""
        return "" if self.plane is None else f"#{self.plane.fragment}"


def region_limits(limits: Limits) -> RegionLimits:
    """Those of a run; one chunk, strip or tile may take as much memory as it may anywhere."""
    return RegionLimits(
        max_pixels=limits.max_pixels,
        max_file_bytes=limits.max_file_bytes,
        decode_seconds=limits.decode_seconds,
    )


@contextmanager
def open_folder(address: Address, limits: Limits) -> Iterator[OmeZarrSource]:
    """
    Raises:
        InputError: as `regions.open_regions`; it has neither 1 channel nor 3, or is in more chunks
            than are walked.
    """
    assert address.folder is not None
    if not is_ome_zarr(address.folder):
        raise no_image()
    about = address.folder, address.plane, region_limits(limits), address.name
    with open_ome_zarr(*about) as source:
        bounded(source.n_chunks, "chunks in a plane")
        _check_channels(source)
        yield source


@contextmanager
def open_file_plane(
    file: BinaryIO, size: int, address: Address, limits: Limits
) -> Iterator[RegionSource]:
    """As `open_folder`, of a plane of a file; closes the file."""
    shared = SharedFile(file, size)
    with open_content(shared, address.plane, region_limits(limits), address.name) as source:
        _check_channels(source)
        yield source


@contextmanager
def open_address(data: bytes, address: Address, limits: Limits) -> Iterator[RegionSource]:
    """Either of them; `data` is the file of a plane."""
    if address.folder is not None:
        with open_folder(address, limits) as folder:
            yield folder
    else:
        with open_file_plane(io.BytesIO(data), len(data), address, limits) as source:
            yield source


def decode_plane(source: RegionSource) -> Decoded:
    """All of its pixels, in bands where they are more than one region may have.

    Raises:
        InputError: truncated, corrupt, or over `decode_seconds`.
    """
    header, limits = source.header, source.limits
    deadline = Deadline(limits.decode_seconds)
    rows = max(1, limits.memory_bytes * header.height // pixel_bytes(header))
    if rows >= header.height:
        return Decoded(header, *source.region(Box(0, 0, *header.shape)))
    pixels: Pixels = np.empty((*header.shape, header.channels), header.dtype)
    n_nonfinite = 0
    for y0 in range(0, header.height, rows):
        deadline.check()
        y1 = min(y0 + rows, header.height)
        pixels[y0:y1], count = source.region(Box(y0, 0, y1, header.width))
        n_nonfinite += count
    return Decoded(header, pixels, n_nonfinite)


def plane_header(data: bytes, address: Address, limits: Limits) -> Header:
    """Of what `open_address` opens."""
    with open_address(data, address, limits) as source:
        return source.header


@contextmanager
def unnamed_errors(name: str) -> Iterator[None]:
    """Regions name the file in what they raise; a row of `images` has that in its path."""
    try:
        yield
    except InputError as error:
        raise InputError(error.reason, error.detail.removeprefix(f"{name}: ")) from error


def _check_channels(source: RegionSource) -> None:
    """Nothing is left out to make them fit."""
    channels = source.header.channels
    if channels not in (1, 3):
        raise InputError(
            Reason.UNSUPPORTED_CHANNELS,
            f"{channels} channels; models look at 1 (grey) or 3: choose them, such as #c=0",
        )
