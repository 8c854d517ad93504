"""Damage, drawn at random but always the same for the same seed."""

from __future__ import annotations

import random
import struct
import zlib
from collections.abc import Callable, Sequence

MOST = 4 << 20
"""Bytes that a mutated file may have."""

_NUMBERS = (
    0, 1, 2, 3, 7, 8, 127, 128, 255, 256, 4095, 32767, 32768, 65535, 65536, 1 << 20,
    (1 << 31) - 1, 1 << 31, (1 << 32) - 1, 1 << 40, (1 << 63) - 1, (1 << 64) - 1,
)  # fmt: skip
_PNG = b"\x89PNG\r\n\x1a\n"


def mutated(files: Sequence[bytes], seed: str, index: int) -> bytes:
    """One of `files`, damaged once to six times; half of the time with its checksums made good."""
    rng = random.Random(f"{seed}/{index}")
    data = bytearray(rng.choice(files))
    for _ in range(rng.choice((1, 1, 1, 2, 3, 6))):
        rng.choice(_DAMAGES)(data, rng.choice(files), rng)
        del data[MOST:]
    if rng.random() < 0.5:
        mend_png(data)
        mend_tar(data)
    return bytes(data)


def flip_bits(data: bytearray, other: bytes, rng: random.Random) -> None:
    for _ in range(rng.choice((1, 2, 8, 32))):
        if data:
            data[_place(data, rng)] ^= 1 << rng.randrange(8)


def set_bytes(data: bytearray, other: bytes, rng: random.Random) -> None:
    if data:
        at = _place(data, rng)
        data[at : at + 4] = bytes(
            rng.choice((0, 255, rng.randrange(256))) for _ in data[at : at + 4]
        )


def set_number(data: bytearray, other: bytes, rng: random.Random) -> None:
    """Lengths, counts, offsets and sizes: any place may hold one."""
    width = rng.choice((1, 2, 2, 4, 4, 8))
    at = _place(data, rng)
    number = rng.choice((*_NUMBERS, len(data), len(data) - at)) + rng.choice((-1, 0, 0, 1))
    order = rng.choice(("little", "big"))
    if at + width <= len(data):
        data[at : at + width] = (number % (1 << 8 * width)).to_bytes(width, order)


def set_digits(data: bytearray, other: bytes, rng: random.Random) -> None:
    """Sizes in text, as in PNM and tar."""
    places = [at for at in range(min(len(data), 1024)) if data[at] in b"0123456789"]
    for at in places and rng.sample(places, min(3, len(places))):
        data[at] = rng.choice(b"0179-# \0")


def truncate(data: bytearray, other: bytes, rng: random.Random) -> None:
    del data[_place(data, rng) :]


def delete_block(data: bytearray, other: bytes, rng: random.Random) -> None:
    at, length = _block(data, rng)
    del data[at : at + length]


def repeat_block(data: bytearray, other: bytes, rng: random.Random) -> None:
    at, length = _block(data, rng)
    data[at:at] = data[at : at + length] * rng.choice((1, 2, 100))


def insert_noise(data: bytearray, other: bytes, rng: random.Random) -> None:
    at = _place(data, rng)
    data[at:at] = rng.randbytes(rng.choice((1, 4, 100)))


def splice(data: bytearray, other: bytes, rng: random.Random) -> None:
    """The beginning of one file and the end of another."""
    data[_place(data, rng) :] = other[_place(other, rng) :]


def transplant(data: bytearray, other: bytes, rng: random.Random) -> None:
    """A block of another file, over what was there."""
    start, length = _block(other, rng)
    at = _place(data, rng)
    data[at : at + length] = other[start : start + length]


_DAMAGES: tuple[Callable[[bytearray, bytes, random.Random], None], ...] = (
    flip_bits, flip_bits, set_bytes, set_number, set_number, set_number, set_digits, truncate,
    delete_block, repeat_block, insert_noise, splice, transplant,
)  # fmt: skip


def mend_png(data: bytearray) -> None:
    """Checksums of all chunks of a PNG, so that damage gets past them."""
    if not data.startswith(_PNG):
        return
    at = len(_PNG)
    while at + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        end = at + 8 + length
        if end + 4 > len(data):
            return
        struct.pack_into(">I", data, end, zlib.crc32(data[at + 4 : end]))
        at = end + 4


def mend_tar(data: bytearray) -> None:
    """Checksums of whatever looks like a header of a tar."""
    for at in range(0, len(data) - 511, 512):
        if data[at + 257 : at + 262] == b"ustar":
            header = data[at : at + 512]
            checksum = sum(header[:148]) + 8 * 32 + sum(header[156:])
            data[at + 148 : at + 156] = b"%06o\0 " % checksum


def _place(data: bytes | bytearray, rng: random.Random) -> int:
    """A position: anywhere, or near one of the ends, where formats keep their numbers."""
    if not data:
        return 0
    near = min(len(data), rng.choice((64, 512)))
    return rng.choice(
        (rng.randrange(len(data)), rng.randrange(near), len(data) - 1 - rng.randrange(near))
    )


def _block(data: bytes | bytearray, rng: random.Random) -> tuple[int, int]:
    return _place(data, rng), rng.choice((1, 2, 4, 12, 64, 512, 4096))
