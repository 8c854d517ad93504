"""Which reader a file gets: by its first bytes, from a closed list, never by its name."""

from __future__ import annotations

from typing import BinaryIO, Protocol

from segpipe.errors import InputError, Reason
from segpipe.readers import bmp, gif, jpeg, png, pnm, tiff, webp
from segpipe.readers.convert import Samples
from segpipe.readers.deadline import Deadline
from segpipe.readers.structure import corrupt
from segpipe.records import Header


class Format(Protocol):
    """What a format module offers. Both functions raise `InputError`, and whatever their library
    raises on bytes it dislikes: they are called within `structure.decoder_errors`.
    """

    @property
    def SIGNATURES(self) -> tuple[bytes, ...]: ...  # noqa: N802 - a constant of a module

    def inspect(self, file: BinaryIO, size: int) -> Header:
        """Read headers and structure only; `size` is that of the whole file, in bytes."""

    def decode(self, data: bytes, header: Header, deadline: Deadline) -> Samples:
        """Samples (H, W) or (H, W, C) of the first frame, not turned by its orientation."""


PREFIX_BYTES = 512
"""As much of a file as `sniff` looks at."""

READ = "PNG, JPEG, TIFF, WebP, BMP, PPM/PGM/PBM, GIF"

_FORMATS: tuple[Format, ...] = (png, jpeg, tiff, webp, gif, pnm, bmp)

_KNOWN_BUT_NOT_READ = {
    b"%!PS": "PostScript or EPS",
    b"\xc5\xd0\xd3\xc6": "EPS",
    b"%PDF": "PDF",
    b"8BPS": "Photoshop",
    b"\0\0\0\x0cjP  ": "JPEG 2000",
    b"\xff\x4f\xff\x51": "JPEG 2000",
    b"\0\0\0\x0cJXL ": "JPEG XL",
    b"\xff\x0a": "JPEG XL",
    b"\0\0\1\0": "ICO",
    b"v/1\x01": "OpenEXR",
    b"#?RADIANCE": "Radiance HDR",
    b"SIMPLE  =": "FITS",
    b"\x89HDF": "HDF5",
    b"\xda\xce\xbe\x0a": "ND2",
    b"PK\3\4": "a zip archive, which is read as SOURCE itself",
    b"\x1f\x8b": "a gzip file",
    b"P7": "PAM",
    b"PF": "PFM",
    b"Pf": "PFM",
}
_MARKUP = (b"<svg", b"<?xml", b"<!doctype svg", b"<html", b"<!doctype html")


def sniff(prefix: bytes) -> Format:
    """The format of a file that begins with `prefix`.

    Raises:
        InputError: `unsupported_format` for a known other kind, `truncated` when it ends within
            a signature, `corrupt` for anything else.
    """
    for known in _FORMATS:
        if prefix.startswith(known.SIGNATURES):
            return known
    other = _other_kind(prefix)
    if other:
        raise InputError(Reason.UNSUPPORTED_FORMAT, f"{other}; formats read: {READ}")
    if not prefix:
        raise InputError(Reason.TRUNCATED, "the file is empty (0 bytes)")
    if _begins_a_signature(prefix):
        raise InputError(Reason.TRUNCATED, f"the file ends after {len(prefix)} bytes")
    raise corrupt(f"not an image: begins with {prefix[:8]!r}; formats read: {READ}")


def _other_kind(prefix: bytes) -> str:
    for signature, name in _KNOWN_BUT_NOT_READ.items():
        if prefix.startswith(signature):
            return name
    if prefix[4:8] == b"ftyp":
        return f"an ISO media file such as HEIC or AVIF ({prefix[8:12]!r})"
    if prefix[128:132] == b"DICM":
        return "DICOM"
    text = prefix.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    return "SVG or other markup" if text.startswith(_MARKUP) else ""


def _begins_a_signature(prefix: bytes) -> bool:
    return any(signature.startswith(prefix) for known in _FORMATS for signature in known.SIGNATURES)
