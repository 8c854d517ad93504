"""The one thing that is needed of EXIF: the orientation (CIPA DC-008, tag 0x0112)."""

from __future__ import annotations

import struct

_ORIENTATION = 0x0112
_SHORT = 3
_ENTRY_BYTES = 12


def valid_orientation(value: int) -> int:
    """`value` where it is 1 to 8, else 1: unknown orientations are read as stored."""
    return value if 1 <= value <= 8 else 1


def orientation(block: bytes) -> int:
    """Orientation in an EXIF block (which is a small TIFF), 1 where there is none.

    A damaged block gives 1: what cannot be read there changes no pixel.
    """
    block = block.removeprefix(b"Exif\0\0")
    order = {b"II": "<", b"MM": ">"}.get(block[:2])
    if order is None:
        return 1
    try:
        (start,) = struct.unpack_from(order + "I", block, 4)
        (count,) = struct.unpack_from(order + "H", block, start)
        for index in range(count):
            entry = start + 2 + index * _ENTRY_BYTES
            tag, kind, _, value = struct.unpack_from(order + "HHIH", block, entry)
            if tag == _ORIENTATION and kind == _SHORT:
                return valid_orientation(value)
    except struct.error:
        pass
    return 1
