"""From a listed image to one that is read by region."""

from __future__ import annotations

import io
from typing import BinaryIO

from segpipe.errors import InputError, Reason
from segpipe.readers import tiff
from segpipe.readers.archives import open_archive
from segpipe.readers.formats import PREFIX_BYTES, sniff
from segpipe.readers.names import is_object_uri, split_member, split_uri
from segpipe.readers.places import Places
from segpipe.readers.planes import Plane, split_plane
from segpipe.readers.regions.ome_zarr import open_ome_zarr
from segpipe.readers.regions.shared_file import SharedFile
from segpipe.readers.regions.slides import is_slide, open_slide
from segpipe.readers.regions.source import RegionLimits, RegionSource, check_memory, errors_of
from segpipe.readers.regions.tiff import open_tiff
from segpipe.readers.regions.whole import open_whole
from segpipe.readers.zarr_folder import folder_of, is_ome_zarr, no_image
from segpipe.records import ImageRef


def open_regions(
    ref: ImageRef, limits: RegionLimits | None = None, places: Places | None = None
) -> RegionSource:
    """Open an image to read regions of it; close it, or use it as a context.

    Args:
        ref: a file, an object, a member of an archive (which is read whole into memory), or the
            folder of an OME-Zarr. A fragment of its uri chooses a plane (see `planes`); without one
            it is the first page of a TIFF, as `Reader` reads it, and all channels of an OME-Zarr.
        limits: None for the defaults.
        places: where images are; None for new connections.

    Raises:
        InputError: it cannot be read, is of no kind that is read by region, is over a limit, or
            has no such plane.
        StoreError: the storage of the images is the trouble.
    """
    limits = limits or RegionLimits()
    with errors_of(ref.path):
        if ref.refused is not None:
            raise InputError(ref.refused, ref.refused_detail)
        uri, plane = split_plane(ref.uri)
        folder = folder_of(uri)
        if folder is not None and not is_ome_zarr(folder):
            raise no_image()
        if folder is not None:
            return open_ome_zarr(folder, plane, limits, ref.path)
        if is_slide(uri):
            return open_slide(_local(uri), plane, limits, ref.path)
        file = SharedFile(*_opened(uri, ref, limits, places or Places()))
        try:
            return open_content(file, plane, limits, ref.path)
        except BaseException:
            file.close()
            raise


def open_content(
    file: SharedFile, plane: Plane | None, limits: RegionLimits, name: str
) -> RegionSource:
    """As `open_regions`, of a file that is open, whatever it is called; it is then the source's."""
    if sniff(file.read(0, PREFIX_BYTES)) is tiff:
        return open_tiff(file, plane, limits, name)
    return open_whole(file, plane, limits, name)


def _local(uri: str) -> str:
    if is_object_uri(uri) or split_member(uri)[1] is not None:
        raise InputError(
            Reason.UNSUPPORTED_FORMAT, "a slide in a bucket or an archive; copy it to a disk"
        )
    return split_uri(uri)[0]


def _opened(uri: str, ref: ImageRef, limits: RegionLimits, places: Places) -> tuple[BinaryIO, int]:
    outer, member = split_member(uri)
    if member is None:
        file, size = places.open(outer, ref.size_bytes or None, ref.etag)
        if size > limits.max_file_bytes:
            file.close()
            raise InputError(
                Reason.TOO_LARGE,
                f"{size:,} bytes; the limit is {limits.max_file_bytes:,} (max_file_bytes)",
            )
        return file, size
    archive = open_archive(*places.open(outer, etag=ref.etag))
    try:
        with archive.open(member) as (stream, size):
            check_memory(size, "a member of an archive is read whole: it", limits)
            data = stream.read(size)
    finally:
        archive.close()
    return io.BytesIO(data), len(data)
