"""Good files of every kind that is read, small ones: what the fuzzer damages."""

from __future__ import annotations

import gzip
import io
import tarfile
import zipfile
import zlib

import numpy as np
from PIL import Image

from tests.bad_images import encoded, photo, png, tiff, whole_images, zeros_deflated


def originals(kind: str) -> list[bytes]:
    """Good files of a kind, small ones."""
    if kind == "zip":
        return [_zip(zipfile.ZIP_DEFLATED), _zip(zipfile.ZIP_STORED), _zip(zipfile.ZIP_LZMA)]
    if kind == "tar":
        return [
            _tar(tarfile.GNU_FORMAT),
            _tar(tarfile.PAX_FORMAT),
            gzip.compress(_tar(tarfile.GNU_FORMAT)),
        ]
    endings = {"jpeg": ".jpg", "tiff": ".tif", "pnm": ".ppm"}
    ending = endings.get(kind, f".{kind}")
    found = [data for name, data in whole_images().items() if name.endswith(ending)]
    return [data for data in found if len(data) < 200_000] + _MORE.get(kind, list)()


def _more_png() -> list[bytes]:
    deep = b"".join(b"\0" + row.astype(">u2").tobytes() for row in photo().astype(np.uint16) * 257)
    exif = Image.Exif()
    exif[0x0112] = 6
    frames = [Image.fromarray(photo() // 8 * index) for index in range(3)]
    return [
        png((64, 48, 16, 2), zlib.compress(deep)),
        png((8, 8, 8, 0), zeros_deflated(72)),
        encoded(photo(), "PNG", exif=exif),
        encoded(photo(8, 9), "PNG", compress_level=0),  # damage reaches the rows themselves
        encoded(Image.fromarray(photo(9, 8)).convert("P"), "PNG", compress_level=0, bits=4),
        encoded(frames[0], "PNG", save_all=True, append_images=frames[1:]),
    ]


def _more_tiff() -> list[bytes]:
    """A file of each way to store a page."""
    rgb, grey = photo(), photo()[:, :, 0]
    planes = np.moveaxis(rgb, -1, 0).copy()
    image = Image.fromarray(rgb)
    lossless = [
        tiff(grey, compression=how, rowsperstrip=7)
        for how in ("lzw", "deflate", "packbits", "zstd", "lzma", None)
    ]
    return [
        *lossless,
        tiff(rgb, photometric="rgb", compression="jpeg", tile=(16, 16)),
        tiff(planes, photometric="rgb", planarconfig="separate", compression="lzw"),
        tiff(rgb, photometric="rgb", compression="deflate", predictor=True),
        tiff(np.dstack([rgb, grey]), photometric="separated"),
        tiff(grey, photometric="miniswhite", byteorder=">"),
        tiff(grey // 64, bitspersample=2, photometric="minisblack"),
        tiff(grey.astype(np.float16), byteorder=">"),
        encoded(image.convert("P"), "TIFF"),
        encoded(image.convert("1"), "TIFF", compression="group4"),
        encoded(image, "TIFF", compression="jpeg"),
    ]


def _more_bmp() -> list[bytes]:
    image = Image.fromarray(photo())
    palette = b"".join(bytes((value, 0, value, 0)) for value in range(256))
    runs = b"\5\7\0\0" * 8 + b"\0\1"
    sizes = (40).to_bytes(4, "little") + (5).to_bytes(4, "little") + (8).to_bytes(4, "little")
    rest = (
        b"\1\0\x08\0\1\0\0\0" + len(runs).to_bytes(4, "little") + bytes(8) + b"\0\1\0\0" + bytes(4)
    )
    offset = 14 + len(sizes + rest) + len(palette)
    head = (
        b"BM" + (offset + len(runs)).to_bytes(4, "little") + bytes(4) + offset.to_bytes(4, "little")
    )
    modes = [encoded(image.convert(mode), "BMP") for mode in ("1", "L", "P", "RGB", "RGBA")]
    return [*modes, head + sizes + rest + palette + runs]


def _more_pnm() -> list[bytes]:
    values = b" ".join(b"%d" % value for value in range(60))
    image = Image.fromarray(photo())
    return [
        b"P1\n# a comment\n10 6\n" + b"0 1 " * 30,
        b"P2\n10 6\n# a comment\n59\n" + values,
        b"P3 4 5 65535\n" + values + b"\n# the end\n",
        encoded(image.convert("1"), "PPM"),
        encoded(image.convert("L"), "PPM"),
        b"P6 8 8 65535\n" + bytes(384),
    ]


def _more_gif() -> list[bytes]:
    frames = [Image.fromarray(photo() // 8 * index).convert("P") for index in range(3)]
    return [
        encoded(frames[1], "GIF", interlace=1),
        encoded(frames[0], "GIF", save_all=True, append_images=frames[1:], comment=b"x" * 300),
    ]


def _more_webp() -> list[bytes]:
    image = Image.fromarray(photo())
    exif = Image.Exif()
    exif[0x0112] = 6
    return [
        encoded(image, "WEBP", lossless=True),
        encoded(image.convert("RGBA"), "WEBP"),
        encoded(image, "WEBP", exif=exif),
    ]


_MORE = {
    "png": _more_png, "tiff": _more_tiff, "bmp": _more_bmp, "pnm": _more_pnm, "gif": _more_gif,
    "webp": _more_webp,
}  # fmt: skip


def _members() -> dict[str, bytes]:
    small = photo(8, 9)
    names = ("a.png", "folder/b.jpg", "x" * 120 + ".tif", "\u00e9.gif", "notes.txt", "d.webp")
    kinds = ("PNG", "JPEG", "TIFF", "GIF", "PPM", "WEBP")
    return {name: encoded(small, kind) for name, kind in zip(names, kinds, strict=True)}


def _zip(compression: int) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, data in _members().items():
            archive.writestr(zipfile.ZipInfo(name), data, compression)
    return file.getvalue()


def _tar(form: int) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=form) as archive:
        for name, data in _members().items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        link = tarfile.TarInfo("link.png")
        link.type, link.linkname = tarfile.SYMTYPE, "a.png"
        archive.addfile(link)
    return file.getvalue()
