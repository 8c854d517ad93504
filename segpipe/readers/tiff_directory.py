"""The directories (IFDs) of a TIFF 6.0 or BigTIFF file: how each page is stored, and where it is.

A dozen numbers are needed, so they are parsed here without a library: a hostile file can then
cost no more than the tags that are asked for.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import BinaryIO

from segpipe.errors import InputError, Reason
from segpipe.readers.convert import check_channels, check_pixel_type
from segpipe.readers.exif import valid_orientation
from segpipe.readers.structure import bounded, corrupt, take, truncated

_MAX_SEGMENTS = 1 << 21
"""Strips or tiles of a page; their positions become lists of numbers in memory."""
_MAX_TILE_PIXELS = 1 << 22
"""In a tile that is larger than its image."""
_SEGMENT_TAGS = (273, 279, 324, 325)
_LOADED_TAGS = (258, 270, 282, 283, 305, 339, 347, 513, 514, 530, 33628, 42113, 50838, 50839)
"""Those, with the segments' own, that tifffile reads whole as soon as it sees them."""
_MAX_VALUES = 1 << 26
_MOST = dict.fromkeys(_SEGMENT_TAGS, _MAX_SEGMENTS) | dict.fromkeys(_LOADED_TAGS, _MAX_VALUES)
_INTEGER_CODES = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}
MAX_VALUES = 64
"""Of a tag that says something of each sample, or of each level."""

_WIDTH, _LENGTH, _BITS, _COMPRESSION, _PHOTOMETRIC = 256, 257, 258, 259, 262
_ORIENTATION, _SAMPLES, _PLANAR, _TILE_WIDTH, _TILE_LENGTH = 274, 277, 284, 322, 323
_EXTRA_SAMPLES, _SAMPLE_FORMAT, _DEPTH, _ROWS_PER_STRIP = 338, 339, 32997, 278
SUBFILE_TYPE, SUB_DIRECTORIES = 254, 330
_WANTED = {
    SUBFILE_TYPE, SUB_DIRECTORIES,
    _WIDTH, _LENGTH, _BITS, _COMPRESSION, _PHOTOMETRIC, _ORIENTATION, _SAMPLES, _PLANAR,
    _TILE_WIDTH, _TILE_LENGTH, _EXTRA_SAMPLES, _SAMPLE_FORMAT, _DEPTH, _ROWS_PER_STRIP,
}  # fmt: skip

WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, CMYK, YCBCR = 0, 1, 2, 3, 5, 6
_PHOTOMETRICS = (WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, CMYK, YCBCR)
NONE, JPEG = 1, 7
_COMPRESSIONS = {
    NONE: "none", 5: "LZW", 8: "deflate", 32773: "PackBits", 32946: "deflate", JPEG: "JPEG",
    34925: "LZMA", 50000: "zstd",
}  # fmt: skip
_UNSIGNED, _SIGNED, _FLOAT, _UNDEFINED = 1, 2, 3, 4
_ASSOCIATED_ALPHA, _UNASSOCIATED_ALPHA = 1, 2
_STORED_TYPES = {
    _UNSIGNED: {
        1: "uint8", 2: "uint8", 4: "uint8", 8: "uint8",
        10: "uint16", 12: "uint16", 14: "uint16", 16: "uint16", 32: "uint32",
    },
    _SIGNED: {8: "int8", 16: "int16", 32: "int32"},
    _FLOAT: {16: "float16", 24: "float32", 32: "float32", 64: "float64"},
}  # fmt: skip
"""Sample format -> bits -> numpy name of the samples in memory."""
_FORMAT_NAMES = {_UNSIGNED: "uint", _SIGNED: "int", _FLOAT: "float", 5: "complex int", 6: "complex"}


@dataclass(frozen=True, slots=True)
class Layout:
    """How the first page is stored, from its tags.

    Attributes:
        samples: numbers per pixel, with the `alpha` ones among them, which come last.
        segment_shape: (height, width) of a tile, or of a whole strip.
        tiled: whether segments are tiles.
    """

    height: int
    width: int
    samples: int
    bits: int
    sample_format: int
    photometric: int
    compression: int
    planar: bool
    orientation: int
    alpha: int
    segment_shape: tuple[int, int]
    tiled: bool

    @property
    def stored_type(self) -> str:
        """numpy name of the samples as tifffile gives them."""
        known = _STORED_TYPES.get(self.sample_format, {}).get(self.bits)
        return known or f"{_FORMAT_NAMES.get(self.sample_format, 'unknown')}{self.bits}"

    @property
    def colours(self) -> int:
        """Channels of the pixels: palette, CMYK and YCbCr become RGB."""
        if self.photometric == PALETTE and self.samples - self.alpha == 1:
            return 3
        if self.photometric == CMYK and self.samples - self.alpha == 4:
            return 3
        return self.samples - self.alpha

    @property
    def pixel_type(self) -> str:
        return "uint8" if self.photometric == PALETTE else self.stored_type


Tags = dict[int, tuple[int, ...]]
"""Values of those integer tags of a page that say how it is stored."""

Entry = tuple[int, int, int, bytes]
"""Of a directory: tag, type, how many, and the value or its position."""


class Directories:
    """Reads directories (IFDs) of one file.

    Attributes:
        first: position of the first one, in bytes.
        order: `<` or `>`, of the bytes of its numbers.
    """

    def __init__(self, file: BinaryIO, size: int) -> None:
        file.seek(0)
        head = take(file, 8, "its header")
        order = "<" if head[:2] == b"II" else ">"
        big = struct.unpack(order + "H", head[2:4])[0] == 43
        self._file, self._size, self.order = file, size, order
        self._count = struct.Struct(order + ("Q" if big else "H"))
        self._entry = struct.Struct(order + ("HHQ8s" if big else "HHI4s"))
        self._offset = struct.Struct(order + ("Q" if big else "I"))
        (self.first,) = self._offset.unpack(take(file, 8, "its header") if big else head[4:])

    def read(self, offset: int) -> tuple[Tags, int]:
        """(values of the wanted integer tags, offset of the next directory).

        Raises:
            InputError: there is none, it is damaged, or has more segments than are read.
        """
        entries, following = self.entries(offset)
        tags: Tags = {}
        for tag, kind, count, value in entries:
            if count > _MOST.get(tag, count):
                what = "strips or tiles" if tag in _SEGMENT_TAGS else f"values of tag {tag}"
                raise InputError(Reason.TOO_LARGE, f"{count:,} {what}; {_MOST[tag]:,} are read")
            if tag in _WANTED and kind in _INTEGER_CODES:
                tags[tag] = self._integers(kind, min(count, MAX_VALUES + 1), value)
        return tags, following

    def entries(self, offset: int) -> tuple[list[Entry], int]:
        """(what stands in a directory, offset of the next one).

        Raises:
            InputError: as `read`.
        """
        n_entries = self._n_entries(offset)
        table = take(self._file, n_entries * self._entry.size, "a directory")
        following = self._file.read(self._offset.size)
        return list(self._entry.iter_unpack(table)), self._unpack_next(following)

    def value(self, size: int, value: bytes) -> bytes:
        """The `size` bytes of an entry's value, which stand in the entry or where it says.

        Raises:
            InputError: `truncated`.
        """
        if size > len(value):
            (offset,) = self._offset.unpack(value)
            self._file.seek(min(offset, self._size))
            value = take(self._file, size, "a tag")
        return value[:size]

    def chain(self, following: int) -> list[int]:
        """Positions of all pages; one that was seen before ends the chain, as does damage.

        Args:
            following: position of the second page.
        """
        seen = {self.first: None}
        while following and following not in seen and following < self._size:
            seen[following] = None
            bounded(len(seen), "pages")
            try:
                n_entries = self._n_entries(following)
            except InputError:
                break  # the chain is damaged behind the page that is read
            position = following + self._count.size + n_entries * self._entry.size
            self._file.seek(min(position, self._size))
            following = self._unpack_next(self._file.read(self._offset.size))
        return list(seen)

    def _n_entries(self, offset: int) -> int:
        if not 8 <= offset < self._size:
            raise truncated(f"its pages (directory at byte {offset:,} of {self._size:,})")
        self._file.seek(offset)
        (count,) = self._count.unpack(take(self._file, self._count.size, "a directory"))
        if not 0 < count <= 4096:
            raise corrupt(f"directory of {count:,} tags; 1 to 4096 are read")
        return int(count)

    def _unpack_next(self, raw: bytes) -> int:
        return int(self._offset.unpack(raw)[0]) if len(raw) == self._offset.size else 0

    def _integers(self, kind: int, count: int, value: bytes) -> tuple[int, ...]:
        code = struct.Struct(f"{self.order}{count}{_INTEGER_CODES[kind]}")
        return code.unpack(self.value(code.size, value))


def layout_of(tags: Tags) -> Layout:
    """How a page is stored.

    Raises:
        InputError: an unsupported compression, colour space, pixel type or number of channels.
    """

    def one(tag: int, default: int) -> int:
        return tags[tag][0] if tags.get(tag) else default

    samples = one(_SAMPLES, 1)
    width, height = one(_WIDTH, 0), one(_LENGTH, 0)
    stored_format = one(_SAMPLE_FORMAT, _UNSIGNED)
    photometric = one(_PHOTOMETRIC, RGB if samples >= 3 else BLACK_IS_ZERO)
    layout = Layout(
        height=height,
        width=width,
        samples=samples,
        bits=one(_BITS, 1),
        sample_format=_UNSIGNED if stored_format == _UNDEFINED else stored_format,
        photometric=photometric,
        compression=one(_COMPRESSION, 1),
        planar=one(_PLANAR, 1) == 2,
        orientation=valid_orientation(one(_ORIENTATION, 1)),
        alpha=_n_alpha(photometric, samples, tags.get(_EXTRA_SAMPLES, ())),
        segment_shape=(
            one(_TILE_LENGTH, min(one(_ROWS_PER_STRIP, height), height)),
            one(_TILE_WIDTH, width),
        ),
        tiled=_TILE_WIDTH in tags,
    )
    _check(layout, depth=one(_DEPTH, 1), mixed=_mixed(tags))
    return layout


def _mixed(tags: Tags) -> bool:
    """Samples of one pixel that differ in their number of bits or their format."""
    return any(len(set(tags.get(tag, ()))) > 1 for tag in (_BITS, _SAMPLE_FORMAT))


def _n_alpha(photometric: int, samples: int, extra: Sequence[int]) -> int:
    """Samples that are alpha: declared so, or the fourth of an RGB image."""
    if photometric == RGB and samples == 4:
        return 1
    return sum(kind in (_ASSOCIATED_ALPHA, _UNASSOCIATED_ALPHA) for kind in extra)


def _check(layout: Layout, depth: int, mixed: bool) -> None:
    if layout.compression not in _COMPRESSIONS:
        names = ", ".join(f"{name} ({code})" for code, name in _COMPRESSIONS.items())
        raise InputError(
            Reason.UNSUPPORTED_FORMAT, f"TIFF compression {layout.compression}; read are {names}"
        )
    refusal = _refused_pixels(layout, depth, mixed)
    if refusal:
        raise InputError(Reason.UNSUPPORTED_PIXEL_TYPE, refusal)
    if layout.alpha > 1:
        raise InputError(Reason.UNSUPPORTED_CHANNELS, f"{layout.alpha} alpha channels; 1 is read")
    check_channels(layout.colours)
    check_pixel_type(layout.pixel_type)
    segment_pixels = layout.segment_shape[0] * layout.segment_shape[1]
    if segment_pixels > max(layout.height * layout.width, _MAX_TILE_PIXELS):
        raise InputError(
            Reason.TOO_LARGE, f"tiles of {segment_pixels:,} pixels; {_MAX_TILE_PIXELS:,} are read"
        )


def _refused_pixels(layout: Layout, depth: int, mixed: bool) -> str:
    """Why these pixels are not read; empty when they are."""
    if layout.photometric not in _PHOTOMETRICS:
        return f"TIFF colour space {layout.photometric} (PhotometricInterpretation)"
    if mixed:
        return "samples of different types"
    if depth != 1:
        return f"a volume of depth {depth}"
    if layout.photometric == YCBCR and layout.compression != JPEG:
        return "YCbCr without JPEG compression"
    if layout.photometric == CMYK and (layout.compression == JPEG or layout.bits != 8):
        return f"CMYK of {layout.bits} bits; uncompressed or losslessly compressed 8 bits are read"
    if layout.photometric == PALETTE and layout.stored_type not in ("uint8", "uint16"):
        return f"palette of {layout.stored_type}"
    return ""
