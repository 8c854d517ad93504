"""Every plane of the images of a collection, as a manifest names them."""

from __future__ import annotations

from collections.abc import Iterator

from segpipe.errors import InputError, SpecError
from segpipe.readers.collection import list_collection
from segpipe.readers.names import is_object_uri, split_uri
from segpipe.readers.places import Places
from segpipe.readers.plane_refs import without_plane
from segpipe.readers.planes import Extent, Plane, plane_ref, planes
from segpipe.readers.regions import open_regions
from segpipe.records import ImageRef


def plane_entries(source: str, channels: tuple[int, ...] | None = None) -> Iterator[str]:
    """A path for each plane, or an address where the image is an object, of a collection.

    An image of one plane is named as it is, and so is one that cannot be read: a run tells why.

    Args:
        source: as of `list_collection`; no archive.
        channels: those that become the pixels, in this order; None: all of them, 1 or 3.

    Raises:
        SpecError: as `list_collection`; an image has no such channels, or neither 1 nor 3 and none
            were chosen.
    """
    listing = list_collection(source)
    if listing.kind in ("zip", "tar"):
        raise SpecError(f"{source}: a manifest cannot name members of an archive; unpack it")
    places = Places()
    for ref in listing:
        entry = _entry(ref.uri.partition("#")[0])
        extent = _extent(ref, places)
        if extent is None or (extent == Extent() and channels in (None, (0,))):
            yield entry
            continue
        if channels is None and extent.c not in (1, 3):
            raise SpecError(
                f"{ref.path}: {extent.c} channels; models look at 1 or 3: choose them, such as"
                " --channels 0"
            )
        try:
            for plane in planes(extent, channels):
                yield f"{entry}#{plane.fragment}"
        except InputError as error:
            raise SpecError(f"{ref.path}: {error.detail}") from error


def _extent(ref: ImageRef, places: Places) -> Extent | None:
    try:
        first = plane_ref(without_plane(ref), Plane(c=(0,)))
        with open_regions(first, places=places) as opened:
            return opened.about.extent
    except InputError:
        return None


def _entry(uri: str) -> str:
    return uri if is_object_uri(uri) else split_uri(uri)[0]
