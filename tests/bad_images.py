"""Image files that are odd, damaged or hostile, and what must become of each.

`make_bad_inputs` writes them into a folder; the functions before it make the bytes of one file.
"""

from __future__ import annotations

import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image

from segpipe.errors import Reason

OK = "ok"
DAMAGED = frozenset({Reason.TRUNCATED, Reason.CORRUPT})

Outcome = frozenset[str]
"""`ok` or reasons of which any is right."""


def photo(height: int = 48, width: int = 64) -> np.ndarray:
    """(H, W, 3) uint8 with structure and noise, so that no codec can make it tiny."""
    rng = np.random.default_rng(0)
    ramp = np.linspace(0, 200, height * width * 3).reshape(height, width, 3)
    return (ramp + rng.integers(0, 55, ramp.shape)).astype(np.uint8)


def encoded(image: np.ndarray | Image.Image, kind: str, **options: object) -> bytes:
    """Pillow's encoding of `image` as `kind`."""
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def tiff(samples: np.ndarray, **options: object) -> bytes:
    """tifffile's encoding of `samples`."""
    file = io.BytesIO()
    tifffile.imwrite(file, samples, **options)
    return file.getvalue()


def png_chunk(name: bytes, payload: bytes) -> bytes:
    checksum = zlib.crc32(name + payload)
    return struct.pack(">I", len(payload)) + name + payload + struct.pack(">I", checksum)


def png(ihdr: tuple[int, int, int, int], idat: bytes, *extra: bytes) -> bytes:
    """A PNG of (width, height, bit depth, colour type), compressed rows, and chunks between."""
    header = struct.pack(">IIBBBBB", *ihdr, 0, 0, 0)
    return b"".join(
        (
            b"\x89PNG\r\n\x1a\n",
            png_chunk(b"IHDR", header),
            *extra,
            png_chunk(b"IDAT", idat),
            png_chunk(b"IEND", b""),
        )
    )


def zeros_deflated(n_bytes: int) -> bytes:
    """A zlib stream that inflates to `n_bytes` zeros, made without holding them."""
    packer = zlib.compressobj(9)
    block = bytes(1 << 20)
    parts = [packer.compress(block[: min(len(block), n_bytes - at)])
             for at in range(0, n_bytes, len(block))]  # fmt: skip
    return b"".join((*parts, packer.flush()))


def many_scans(side: int, n_scans: int) -> bytes:
    """A progressive JPEG, grey, side x side, whose first scan is there `n_scans` times over."""
    data = encoded(Image.new("L", (side, side), 128), "JPEG", progressive=True)
    first = data.index(b"\xff\xda")
    second = data.index(b"\xff\xda", first + 2)
    scan_end = min(data.find(marker, first + 2) for marker in (b"\xff\xc4", b"\xff\xda")
                   if data.find(marker, first + 2) > 0)  # fmt: skip
    assert scan_end <= second
    return data[:first] + data[first:scan_end] * n_scans + data[scan_end:]


def looping_tiff() -> bytes:
    """One page whose link to the next page leads to itself."""
    data = bytearray(tiff(photo()))
    (ifd,) = struct.unpack_from("<I", data, 4)
    (n_tags,) = struct.unpack_from("<H", data, ifd)
    struct.pack_into("<I", data, ifd + 2 + 12 * n_tags, ifd)
    return bytes(data)


def zigzag_tiff(n_pages: int, size: int) -> bytes:
    """A page of one pixel, and further ones that lie in turns at the beginning and the end."""
    page = struct.Struct("<HHHIII")
    data = bytearray(size)
    places = [200 + page.size * index if index % 2 else size - page.size * (index + 1)
              for index in range(n_pages - 1)]  # fmt: skip
    following = [*places, 0]
    tags = ((256, 1), (257, 1), (258, 8), (262, 1), (273, 4), (279, 1))
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    first = b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries
    data[: len(first) + 4] = first + struct.pack("<I", following[0])
    for place, next_place in zip(places, following[1:], strict=True):
        page.pack_into(data, place, 1, 256, 4, 1, 1, next_place)
    return bytes(data)


def huge_tiff() -> bytes:
    """200,000 x 200,000 pixels in 62 bytes."""
    tags = ((256, 200_000), (257, 200_000), (262, 1), (273, 8))
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4)


def huge_webp() -> bytes:
    """16,384 x 16,384 pixels in 33 bytes: a lossless header and nothing behind it."""
    bits = (16383 | 16383 << 14).to_bytes(4, "little")
    payload = b"WEBPVP8L" + struct.pack("<I", 6) + b"\x2f" + bits + b"\0"
    return b"RIFF" + struct.pack("<I", len(payload)) + payload


def huge_images() -> dict[str, bytes]:
    """Headers that claim more pixels than any default limit."""
    row = 1 + 30_000 // 8
    return {
        "huge.png": png((30_000, 30_000, 1, 0), zeros_deflated(row * 30_000)),
        "huge.bmp": b"BM" + struct.pack("<IHHI", 54, 0, 0, 54)
        + struct.pack("<IiiHHIIiiII", 40, 30_000, 30_000, 1, 24, 0, 0, 0, 0, 0, 0),
        "huge.ppm": b"P6 100000 100000 255\n",
        "huge.tif": huge_tiff(),
        "huge.webp": huge_webp(),
        "huge.gif": b"GIF89a" + struct.pack("<HHBBB", 65535, 65535, 0, 0, 0)
        + b"\x2c" + struct.pack("<HHHHB", 0, 0, 65535, 65535, 0) + b"\x02\0;",
        "huge.jpg": b"\xff\xd8\xff\xc0" + struct.pack(">HBHHB", 11, 8, 65500, 65500, 1)
        + b"\x01\x11\0",
    }  # fmt: skip


def inflating_metadata(n_bytes: int = 200_000_000) -> dict[str, bytes]:
    """Good pixels beside a text or a profile that inflates to `n_bytes`."""
    rows = zlib.compress(b"".join(b"\0" + bytes(8) for _ in range(8)))
    bomb = zeros_deflated(n_bytes)
    return {
        "ztxt.png": png((8, 8, 8, 0), rows, png_chunk(b"zTXt", b"Comment\0\0" + bomb)),
        "iccp.png": png((8, 8, 8, 0), rows, png_chunk(b"iCCP", b"icc\0\0" + bomb)),
    }


def whole_images() -> dict[str, bytes]:
    """One good file of each format and of each odd pixel type that is read."""
    grey = photo()[:, :, 0]
    image = Image.fromarray(photo())
    alpha = image.convert("RGBA")
    alpha.putalpha(Image.fromarray(grey))
    palette = image.convert("P")
    deep = photo().astype(np.uint16) * 257
    frames = [Image.new("RGB", (16, 16), (80 * index, 0, 0)) for index in range(3)]
    return {
        "rgb.png": encoded(image, "PNG"),
        "rgb.jpg": encoded(image, "JPEG"),
        "progressive.jpg": encoded(image, "JPEG", progressive=True),
        "grey.jpg": encoded(grey, "JPEG"),
        "rgb.tif": tiff(photo(), photometric="rgb", compression="deflate", rowsperstrip=8),
        "rgb.webp": encoded(image, "WEBP"),
        "rgb.bmp": encoded(image, "BMP"),
        "rgb.ppm": encoded(image, "PPM"),
        "palette.gif": encoded(image, "GIF"),
        "animated.webp": encoded(frames[0], "WEBP", save_all=True, append_images=frames[1:]),
        "one_bit.png": encoded(image.convert("1"), "PNG"),
        "palette_trns.png": encoded(palette, "PNG", transparency=3),
        "grey_alpha.png": encoded(image.convert("LA"), "PNG"),
        "rgba.png": encoded(alpha, "PNG"),
        "cmyk.jpg": encoded(image.convert("CMYK"), "JPEG"),
        "grey16.png": encoded(Image.fromarray(deep[:, :, 0]), "PNG"),
        "grey16.tif": tiff(deep[:, :, 0]),
        "uint32.tif": tiff(grey.astype(np.uint32) * 65537),
        "negative.tif": tiff(grey.astype(np.int16) - 100),
        "constant.tif": tiff(np.full((8, 8), 7.0, np.float32)),
        "float64.tif": tiff(np.array([[0.0, 1e300], [-1e300, 1.0]])),
        "some_nan.tif": tiff(np.array([[np.nan, np.inf], [-np.inf, 1]], np.float32)),
        "all_nan.tif": tiff(np.full((4, 4), np.nan, np.float32)),
        "pages.tif": tiff(np.zeros((100, 8, 8), np.uint8), photometric="minisblack"),
        "big_tiled.tif": tiff(grey, bigtiff=True, tile=(16, 16), compression="zstd"),
        "looping.tif": looping_tiff(),
        "one_pixel.png": encoded(photo(1, 1), "PNG"),
        "column.png": encoded(photo(60_000, 1), "PNG"),
        "scans.jpg": many_scans(64, 2000),
    }


def refused_images() -> dict[str, tuple[bytes, Outcome]]:
    """Files that never have pixels, and why."""
    svg = b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>'
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n"
    unsupported = frozenset({Reason.UNSUPPORTED_FORMAT})
    pixel_type = frozenset({Reason.UNSUPPORTED_PIXEL_TYPE})
    channels = frozenset({Reason.UNSUPPORTED_CHANNELS})
    return {
        "drawing.svg": (svg, unsupported),
        "svg_inside.png": (svg, unsupported),
        "drawing.eps": (eps, unsupported),
        "eps_inside.png": (eps, unsupported),
        "photo.heic": (b"\0\0\0\x18ftypheic" + bytes(20), unsupported),
        "empty.png": (b"", frozenset({Reason.TRUNCATED})),
        "text.png": (b"this is no image\n", frozenset({Reason.CORRUPT})),
        "bad_crc.png": (flipped(encoded(photo(), "PNG"), b"IDAT"), frozenset({Reason.CORRUPT})),
        "complex.tif": (tiff(np.ones((8, 8), np.complex64)), pixel_type),
        "int64.tif": (tiff(np.ones((8, 8), np.int64)), pixel_type),
        "five.tif": (tiff(photo(8, 10).reshape(8, 6, 5), photometric="minisblack",
                          planarconfig="contig"), channels),
        "two.tif": (tiff(photo(8, 8)[:, :, :2].copy(), photometric="minisblack",
                         planarconfig="contig"), channels),
    }  # fmt: skip


def flipped(data: bytes, after: bytes) -> bytes:
    """`data` with a few bits turned over, a little behind the marker `after`."""
    damaged = bytearray(data)
    damaged[data.index(after) + 40] ^= 0x5A
    return bytes(damaged)


def truncations(fractions: tuple[float, ...] = (0, 0.01, 0.1, 0.5, 0.9, 0.99)) -> dict[str, bytes]:
    """Each format, cut short."""
    whole = whole_images()
    names = ("rgb.png", "rgb.jpg", "progressive.jpg", "rgb.tif", "rgb.webp", "rgb.bmp", "rgb.ppm",
             "palette.gif")  # fmt: skip
    return {
        f"cut_{int(fraction * 100)}_{name}": whole[name][: int(len(whole[name]) * fraction)]
        for name in names
        for fraction in fractions
    }


def make_bad_inputs(folder: Path) -> dict[str, Outcome]:
    """Write every file into `folder`; returns name -> what may become of it.

    Also a FIFO, a dangling link and a folder named like an image (which a listing walks, and
    which holds one good image).
    """
    contents: dict[str, tuple[bytes, Outcome]] = dict(refused_images())
    for name, data in (whole_images() | inflating_metadata(20_000_000)).items():
        contents[name] = data, frozenset({OK})
    for name, data in huge_images().items():
        contents[name] = data, frozenset({Reason.TOO_LARGE})
    for name, data in truncations().items():
        contents[name] = data, DAMAGED
    contents["jpeg_inside.png"] = encoded(photo(), "JPEG"), frozenset({OK})
    contents["folder.png/inner.png"] = encoded(photo(), "PNG"), frozenset({OK})
    (folder / "folder.png").mkdir()
    for name, (data, _) in contents.items():
        (folder / name).write_bytes(data)
    os.mkfifo(folder / "fifo.png")
    (folder / "dangling.png").symlink_to("nowhere.png")
    special: dict[str, Outcome] = {
        "fifo.png": frozenset({Reason.NOT_A_FILE}),
        "dangling.png": frozenset({Reason.NOT_FOUND}),
    }
    return {name: outcome for name, (_, outcome) in contents.items()} | special
