"""Folders that are images: an OME-Zarr is listed as one, and what is in it is not."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from segpipe.errors import InputError, Reason
from segpipe.readers.files import file_ref, open_file, refusal
from segpipe.readers.names import file_uri
from segpipe.records import ImageRef

METADATA = ("zarr.json", ".zattrs")
"""Of OME-Zarr 0.5 and 0.4, as Zarr formats 3 and 2 have it."""
MAX_METADATA = 16 << 20

_IMAGE = b'"multiscales"'
_GROUPS = (b'"plate"', b'"well"', b'"bioformats2raw.layout"', b'"series"')
"""What the metadata of folders names that hold images, and are none."""
_OF_OTHERS = b'"consolidated_metadata"'
"""Behind this is what the folders in a folder say, so that what is named may be one of them."""
OME_ZARR = ".ome.zarr"
"""What a folder is called that is to be an image, whatever is in it."""
_LABELS = b"labels"
"""What was found in the image lies here, by the specification, and is no part of it."""
_ETAG_DIGITS = 32


def is_ome_zarr(folder: str) -> bool:
    """Whether a folder's own metadata names an image, damaged or not; of a plate its images do.

    It is looked for as text: whoever lists has no use for what else is in it.
    """
    return any(map(_names_an_image, _metadata(folder)))


def is_listed_whole(folder: str) -> bool:
    """Whether a collection has this folder as one image, which may turn out to be damaged.

    That is an OME-Zarr, and what is called one (`.ome.zarr`) and is no plate or other group of
    images: reading it tells what is wrong with it.
    """
    texts = list(_metadata(folder))
    if any(map(_names_an_image, texts)):
        return True
    named = folder.rstrip("/").lower().endswith(OME_ZARR)
    return named and not any(word in text for text in texts for word in _GROUPS)


def folder_ref(path: str, shown: str, uri: str | None = None) -> ImageRef:
    """The OME-Zarr at `path` as a member of a collection.

    Its size is that of all its files, its time that of the newest, and its etag is a digest of
    what they are called, their sizes and their times: a chunk that is written anew, goes, or comes
    back from a backup makes it another version. What lies in `labels/` is left out, and links to
    folders are not followed. Measured for 10,000 files: 0.04 seconds.

    Args:
        uri: of the path, where it is known already.
    """
    uri = uri or file_uri(path)
    try:
        files = sorted(_files(path), key=lambda file: file.name)
    except OSError as error:
        problem = refusal(error)
        return ImageRef(uri, shown, 0, 0, problem.reason, problem.detail)
    about = hashlib.sha256()
    for file in files:
        about.update(b"%d %d %s\0" % (file.size, file.mtime_ns, file.name))
    return ImageRef(
        uri,
        shown,
        sum(file.size for file in files),
        max((file.mtime_ns for file in files), default=0),
        etag=about.hexdigest()[:_ETAG_DIGITS],
    )


def local_ref(path: str, shown: str, uri: str | None = None) -> ImageRef:
    """`files.file_ref`, or the OME-Zarr at `path`."""
    ref = file_ref(path, shown, uri)
    if ref.refused is Reason.NOT_A_FILE and os.path.isdir(path) and is_listed_whole(path):  # noqa: PTH112
        return folder_ref(path, shown, uri)
    return ref


def _names_an_image(text: bytes) -> bool:
    if _IMAGE not in text or not any(word in text for word in (*_GROUPS, _OF_OTHERS)):
        return _IMAGE in text
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return True  # reading it tells that it is damaged
    if isinstance(found, dict) and found.get("zarr_format") == 3:
        attributes = found.get("attributes")
        found = attributes.get("ome") if isinstance(attributes, dict) else None
    return isinstance(found, dict) and "multiscales" in found


def no_image() -> InputError:
    """What is wrong with a folder that `is_ome_zarr` denies."""
    return InputError(
        Reason.NOT_A_FILE,
        f"a folder, and no image in OME-Zarr (in its {' or '.join(METADATA)})",
    )


def folder_of(uri: str) -> str | None:
    """The path of the folder at a URI; None where it is something else, or not on this machine."""
    if not uri.startswith("file:///") or "!/" in uri:
        return None
    path = os.fsdecode(unquote_to_bytes(uri.removeprefix("file://")))
    return path if os.path.isdir(path) else None  # noqa: PTH112 - any bytes, as strings


@dataclass(frozen=True, slots=True)
class _File:
    name: bytes
    size: int
    mtime_ns: int


def _files(folder: str) -> Iterator[_File]:
    """All files below a folder, in no order.

    Raises:
        OSError: some of it cannot be looked at.
    """
    stack = [(os.fsencode(folder), b"")]
    while stack:
        path, name = stack.pop()
        with os.scandir(path) as found:
            for entry in found:
                below = name + entry.name
                if not entry.is_dir(follow_symlinks=False):
                    about = entry.stat(follow_symlinks=False)
                    yield _File(below, about.st_size, about.st_mtime_ns)
                elif below != _LABELS:
                    stack.append((entry.path, below + b"/"))


def _metadata(folder: str) -> Iterator[bytes]:
    """What there is of it, as far as it can be read."""
    for name in METADATA:
        try:
            file, _ = open_file(os.path.join(folder, name))  # noqa: PTH118
            with file:
                yield file.read(MAX_METADATA)
        except (InputError, OSError):
            pass
