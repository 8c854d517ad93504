"""Which names are taken for images in a folder or an archive.

Formats that are known but not read are among them, so that such files end as a failed row with a
reason and not as a silence. What a file is, its content decides.
"""

from __future__ import annotations

import functools

READ = frozenset({
    ".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".tif", ".tiff", ".btf", ".tf8", ".lsm",
    ".svs", ".webp", ".bmp", ".dib", ".ppm", ".pgm", ".pbm", ".pnm", ".gif",
})  # fmt: skip
KNOWN = READ | {
    ".svg", ".eps", ".heic", ".heif", ".avif", ".jp2", ".j2k", ".jpx", ".jxl", ".psd", ".ico",
    ".tga", ".exr", ".hdr", ".pam", ".pfm", ".dcm", ".fits", ".czi", ".nd2", ".lif", ".dng",
    ".cr2", ".cr3", ".nef", ".arw",
}  # fmt: skip
ARCHIVES = (".zip", ".tar", ".tgz", ".tbz2", ".txz", ".tar.gz", ".tar.bz2", ".tar.xz", ".tar.zst",
            ".7z", ".rar")  # fmt: skip


def is_image_name(name: bytes) -> bool:
    """Whether the last part of `name` has an image's extension.

    Names that begin with `._` are what macOS leaves beside files on foreign disks and in
    archives: they carry an image's extension and no image.
    """
    last = name.rstrip(b"/").rpartition(b"/")[2]
    stem, _, extension = last.rpartition(b".")
    return bool(stem) and _is_known(extension) and not last.startswith(b"._")


@functools.lru_cache(maxsize=256)
def _is_known(extension: bytes) -> bool:
    return f".{extension.decode(errors='replace')}".lower() in KNOWN


def is_archive_name(name: bytes) -> bool:
    return name.lower().endswith(tuple(ending.encode() for ending in ARCHIVES))
