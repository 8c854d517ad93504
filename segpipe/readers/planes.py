"""Planes of an image of more than two dimensions, each an image of its own with its own row.

A plane is named by a fragment behind the uri of its file, `file:///a/b.ome.tif#z=3,t=0,c=1,2`: one
focus (`z`), one moment (`t`), and the channels (`c`) that become those of the pixels, in this
order. All count from 0; what is not named is the first, of channels all. No uri of a file holds a
`#` of its own, since names are percent-encoded (see `names`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from segpipe.errors import InputError, Reason
from segpipe.records import ImageRef

MAX_CHANNELS = 64
"""That one plane may be asked to have."""

_PART = re.compile(r"(?:([a-z]+)=)?([0-9]{1,9})")
_FORM = "such as #z=3,t=0,c=1,2"


@dataclass(frozen=True, slots=True)
class Extent:
    """How many there are of each, at least 1.

    Attributes:
        c: channels that can be chosen; the colours of an RGB image are one.
    """

    z: int = 1
    t: int = 1
    c: int = 1


@dataclass(frozen=True, slots=True)
class Plane:
    """What a fragment names.

    Attributes:
        c: channels in the order of the pixels; None for all of them.
    """

    z: int = 0
    t: int = 0
    c: tuple[int, ...] | None = None

    @property
    def fragment(self) -> str:
        """`z=3,t=0,c=1,2`: one text for one plane, which `parse_plane` reads."""
        channels = "" if self.c is None else ",c=" + ",".join(map(str, self.c))
        return f"z={self.z},t={self.t}{channels}"

    def within(self, extent: Extent) -> Plane:
        """This plane, where an image of `extent` has it.

        Raises:
            InputError: `not_found`, naming the axis, the index and how many there are.
        """
        wanted = [("z", self.z), ("t", self.t), *(("c", channel) for channel in self.c or ())]
        for axis, index in wanted:
            n: int = getattr(extent, axis)
            if index >= n:
                raise InputError(
                    Reason.NOT_FOUND, f"{axis}={index}; the image has {axis}=0 to {n - 1}"
                )
        return self


def split_plane(uri: str) -> tuple[str, Plane | None]:
    """(uri of the file, the plane that its fragment names, or None where it has none).

    Raises:
        InputError: `not_found`, the fragment names no plane.
    """
    file, separator, fragment = uri.partition("#")
    return file, parse_plane(fragment) if separator else None


def parse_plane(fragment: str) -> Plane:
    """The plane that is named by the text behind `#`; axes in any order.

    Raises:
        InputError: `not_found`: not of this form, an axis twice, several indices where one is due.
    """
    named: dict[str, list[int]] = {}
    axis = ""
    for part in fragment.split(","):
        found = _PART.fullmatch(part)
        if found is None or not (found[1] or axis):
            raise _wrong(fragment, f"{part!r:.40} is neither AXIS=INDEX nor a further channel")
        if found[1]:
            axis = found[1]
            if axis in named or axis not in ("z", "t", "c"):
                raise _wrong(fragment, f"axis {axis!r:.40}; z, t and c are named once each")
        named.setdefault(axis, []).append(int(found[2]))
    for single in ("z", "t"):
        if len(named.get(single, ())) > 1:
            raise _wrong(fragment, f"several {single}; only c may have more than one index")
    channels = named.get("c", [])
    if len(channels) > MAX_CHANNELS or len(set(channels)) < len(channels):
        raise _wrong(fragment, f"{len(channels)} channels; up to {MAX_CHANNELS}, each once")
    return Plane(
        named.get("z", [0])[0], named.get("t", [0])[0], tuple(channels) if channels else None
    )


def planes(extent: Extent, channels: tuple[int, ...] | None = None) -> Iterator[Plane]:
    """Every plane of an image with these channels, in the order of time and then of focus.

    Raises:
        InputError: it has no such channel.
    """
    for t in range(extent.t):
        for z in range(extent.z):
            yield Plane(z, t, channels).within(extent)


def plane_ref(ref: ImageRef, plane: Plane) -> ImageRef:
    """The plane as an image of its own: its uri, path and id are its own, the rest its file's."""
    file, path = ref.uri.partition("#")[0], ref.path
    if "#" in ref.uri:
        path = path.rpartition("#")[0] or path
    return replace(ref, uri=f"{file}#{plane.fragment}", path=f"{path}#{plane.fragment}")


def _wrong(fragment: str, why: str) -> InputError:
    return InputError(Reason.NOT_FOUND, f"no plane, {_FORM}: #{fragment:.80} ({why})")
