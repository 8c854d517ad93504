"""Folders that are images: an OME-Zarr is listed as one, and what is in it is not."""

from __future__ import annotations

import os

from segpipe.errors import InputError, Reason
from segpipe.readers.files import file_ref, open_file, refusal
from segpipe.readers.names import file_uri
from segpipe.records import ImageRef

METADATA = ("zarr.json", ".zattrs")
"""Of OME-Zarr 0.5 and 0.4, as Zarr formats 3 and 2 have it."""
MAX_METADATA = 16 << 20


def is_ome_zarr(folder: str) -> bool:
    """Whether a folder's own metadata names an image, damaged or not; of a plate its images do.

    It is looked for as text: whoever lists has no use for what else is in it.
    """
    return any(_names_an_image(os.path.join(folder, name)) for name in METADATA)  # noqa: PTH118


def folder_ref(path: str, shown: str, uri: str | None = None) -> ImageRef:
    """The OME-Zarr at `path` as a member of a collection.

    Size and modification time are the folder's own: chunks that are written anew change neither.

    Args:
        uri: of the path, where it is known already.
    """
    uri = uri or file_uri(path)
    try:
        found = os.stat(path)  # noqa: PTH116 - a string, as everywhere on this path
    except OSError as error:
        problem = refusal(error)
        return ImageRef(uri, shown, 0, 0, problem.reason, problem.detail)
    return ImageRef(uri, shown, found.st_size, found.st_mtime_ns)


def local_ref(path: str, shown: str, uri: str | None = None) -> ImageRef:
    """`files.file_ref`, or the OME-Zarr at `path`."""
    ref = file_ref(path, shown, uri)
    if ref.refused is Reason.NOT_A_FILE and is_ome_zarr(path):
        return folder_ref(path, shown, uri)
    return ref


def _names_an_image(path: str) -> bool:
    try:
        file, _ = open_file(path)
        with file:
            return b'"multiscales"' in file.read(MAX_METADATA)
    except (InputError, OSError):
        return False
