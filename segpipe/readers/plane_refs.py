"""Planes as they are named by people: behind the path or the URI of a file."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from urllib.parse import quote

from segpipe.errors import InputError
from segpipe.readers.planes import parse_plane, plane_ref
from segpipe.records import ImageRef

Look = Callable[[str, str], ImageRef]
"""(path, readable path) to what is there, such as `zarr_folder.local_ref`."""


def names_a_plane(path: str) -> bool:
    """Whether a path is that of a file with a fragment behind it, and not of a file with a `#`.

    What is not there is what it looks like.
    """
    file, separator, fragment = path.rpartition("#")
    if not separator or os.path.lexists(path):
        return False
    return os.path.lexists(file) or _parses(fragment)


def path_ref(path: str, shown: str, look: Look) -> ImageRef:
    """What a path names: a file, or a plane of one (`a.ome.tif#z=3,t=0,c=1,2`)."""
    if not names_a_plane(path):
        return look(path, shown)
    file, _, fragment = path.rpartition("#")
    return fragment_ref(look(file, shown.rpartition("#")[0]), fragment)


def fragment_ref(ref: ImageRef, fragment: str) -> ImageRef:
    """The plane of a file that a fragment names; refused where it names none."""
    try:
        return plane_ref(ref, parse_plane(fragment))
    except InputError as error:
        return replace(
            ref,
            uri=f"{ref.uri}#{quote(os.fsencode(fragment))}",
            path=f"{ref.path}#{fragment}",
            refused=error.reason,
            refused_detail=error.detail,
        )


def _parses(fragment: str) -> bool:
    try:
        parse_plane(fragment)
    except InputError:
        return False
    return True


def without_plane(ref: ImageRef) -> ImageRef:
    """The file that an image is, or is a plane of; as listed."""
    return replace(ref, uri=ref.uri.partition("#")[0])
