"""What the metadata of a Zarr array says (format 2 and 3), as far as chunks are read from it.

The codecs are a closed list, and of each one a way to decode is known that stops at the size that
is due; zarr-python's own inflate for as long as the bytes say so.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from segpipe.errors import InputError, Reason
from segpipe.readers.convert import check_pixel_type
from segpipe.readers.structure import corrupt

MAX_AXES = 5
_COMPRESSORS = ("blosc", "zstd", "gzip", "zlib")
_READ = f"read are {', '.join(_COMPRESSORS)} or none, with crc32c and sharding_indexed"


@dataclass(frozen=True, slots=True)
class Packing:
    """How a chunk is packed.

    Attributes:
        dtype: as stored, with its byte order.
        order: `C` or `F`.
        compressor: of `_COMPRESSORS`, or empty.
        checksum: whether a CRC-32C of four bytes follows.
    """

    dtype: np.dtype[Any]
    order: str
    compressor: str
    checksum: bool


@dataclass(frozen=True, slots=True)
class Sharding:
    """Chunks that lie together in one file with an index.

    Attributes:
        shape: of a shard, in elements.
        at_end: where the index is.
        checksum: whether the index has a CRC-32C.
    """

    shape: tuple[int, ...]
    at_end: bool
    checksum: bool


@dataclass(frozen=True, slots=True)
class ArrayLayout:
    """An array.

    Attributes:
        chunk: shape of the smallest part that is decoded.
        prefix, separator: of the names of its files.
        fill: the value of chunks that are not there.
    """

    shape: tuple[int, ...]
    chunk: tuple[int, ...]
    packing: Packing
    sharding: Sharding | None
    prefix: str
    separator: str
    fill: float | int

    @property
    def chunk_bytes(self) -> int:
        return math.prod(self.chunk) * self.packing.dtype.itemsize


def array_layout(raw: Mapping[str, Any], zarr_format: int) -> ArrayLayout:
    """
    Args:
        raw: content of `.zarray` (2) or of `zarr.json` (3).

    Raises:
        InputError: it makes no sense, or names a codec or a type that is not read.
    """
    layout = _format_2(raw) if zarr_format == 2 else _format_3(raw)
    if not 2 <= len(layout.shape) <= MAX_AXES or len(layout.chunk) != len(layout.shape):
        raise corrupt(f"an array of {layout.shape} in chunks of {layout.chunk}")
    return layout


def _format_2(raw: Mapping[str, Any]) -> ArrayLayout:
    if raw.get("filters"):
        raise _unsupported(f"Zarr filters {_name(raw['filters'])}")
    compressor = raw.get("compressor")
    name = "" if compressor is None else str(_object(compressor).get("id"))
    text = raw.get("dtype")
    if not isinstance(text, str) or len(text) > 4 or text[:1] not in "<>|":
        raise _unsupported(f"Zarr data type {_name(text)}")
    return ArrayLayout(
        _counts(raw.get("shape"), 0),
        _counts(raw.get("chunks"), 1),
        Packing(_dtype(text), _one_of(raw.get("order"), ("C", "F")), _compressor(name), False),
        None,
        "",
        _one_of(raw.get("dimension_separator", "."), (".", "/")),
        _fill(raw.get("fill_value")),
    )


def _format_3(raw: Mapping[str, Any]) -> ArrayLayout:
    grid = _named(raw.get("chunk_grid"), ("regular",))[1]
    shape = _counts(grid.get("chunk_shape"), 1)
    codecs = _codecs(raw.get("codecs"))
    sharding = None
    if codecs and codecs[0][0] == "sharding_indexed":
        about = codecs[0][1]
        if len(codecs) > 1:
            raise _unsupported("Zarr codecs around sharding_indexed")
        index = [name for name, _ in _codecs(about.get("index_codecs"))]
        if index not in (["bytes"], ["bytes", "crc32c"]):
            raise _unsupported(f"Zarr index codecs {_name(index)}")
        at_end = _one_of(about.get("index_location", "end"), ("start", "end")) == "end"
        sharding = Sharding(shape, at_end, "crc32c" in index)
        shape, codecs = _counts(about.get("chunk_shape"), 1), _codecs(about.get("codecs"))
        _check_shards(sharding.shape, shape)
    keys, key_settings = _named(raw.get("chunk_key_encoding"), ("default", "v2"))
    separator = key_settings.get("separator", "/" if keys == "default" else ".")
    separator = _one_of(separator, (".", "/"))
    return ArrayLayout(
        _counts(raw.get("shape"), 0),
        shape,
        _packing(raw.get("data_type"), codecs),
        sharding,
        f"c{separator}" if keys == "default" else "",
        separator,
        _fill(raw.get("fill_value")),
    )


def _packing(data_type: object, codecs: Sequence[tuple[str, Mapping[str, Any]]]) -> Packing:
    """Of format 3: `bytes`, then at most one compressor, then perhaps `crc32c`."""
    names = [name for name, _ in codecs]
    checksum = names[-1:] == ["crc32c"]
    middle = names[1:-1] if checksum else names[1:]
    if names[:1] != ["bytes"] or len(middle) > 1:
        raise _unsupported(f"Zarr codecs {_name(names)}")
    if not isinstance(data_type, str):
        raise _unsupported(f"Zarr data type {_name(data_type)}")
    dtype = _dtype(data_type)
    endian = _one_of(codecs[0][1].get("endian", "little"), ("little", "big"))
    return Packing(
        dtype.newbyteorder("<" if endian == "little" else ">"),
        "C",
        _compressor(*middle) if middle else "",
        checksum,
    )


def _check_shards(shard: tuple[int, ...], chunk: tuple[int, ...]) -> None:
    fits = len(shard) == len(chunk) and not any(
        whole % part for whole, part in zip(shard, chunk, strict=True)
    )
    if not fits:
        raise corrupt(f"shards of {shard} in chunks of {chunk}")


def _codecs(raw: object) -> list[tuple[str, Mapping[str, Any]]]:
    if not isinstance(raw, list) or len(raw) > 8:
        raise corrupt(f"Zarr codecs {_name(raw)}")
    return [(str(_object(one).get("name")), _settings(one)) for one in raw]


def _named(raw: object, names: tuple[str, ...]) -> tuple[str, Mapping[str, Any]]:
    return _one_of(_object(raw).get("name"), names), _settings(raw)


def _settings(raw: object) -> Mapping[str, Any]:
    return _object(_object(raw).get("configuration") or {})


def _object(raw: object) -> Mapping[str, Any]:
    if not isinstance(raw, dict):
        raise corrupt(f"Zarr metadata with {_name(raw)} where an object is due")
    return raw


def _counts(raw: object, least: int) -> tuple[int, ...]:
    if not isinstance(raw, list) or not all(
        type(one) is int and least <= one < 1 << 40 for one in raw
    ):
        raise corrupt(f"Zarr metadata with a shape of {_name(raw)}")
    return tuple(raw)


def _dtype(text: str) -> np.dtype[Any]:
    try:
        dtype = np.dtype(text)
    except TypeError as error:
        raise _unsupported(f"Zarr data type {_name(text)}") from error
    if dtype != np.bool_:
        check_pixel_type(dtype.name)
    return dtype


def _fill(raw: object) -> float | int:
    """Of a chunk that is not there; `null` is for any value, so it is 0."""
    if raw is None:
        return 0
    if isinstance(raw, (int, float)):
        return raw
    if raw in ("NaN", "Infinity", "-Infinity"):
        return float(str(raw))
    raise _unsupported(f"Zarr fill value {_name(raw)}")


def _compressor(name: str) -> str:
    if name and name not in _COMPRESSORS:
        raise _unsupported(f"Zarr codec {_name(name)}")
    return name


def _one_of(value: object, allowed: tuple[str, ...]) -> str:
    if not isinstance(value, str) or value not in allowed:
        raise _unsupported(f"Zarr metadata with {_name(value)} where {allowed} are read")
    return value


def _unsupported(what: str) -> InputError:
    return InputError(Reason.UNSUPPORTED_FORMAT, f"{what}; {_READ}")


def _name(value: object) -> str:
    return f"{value!r:.80}"
