"""Images of every format that is read by region: the same pixels, written in many ways."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numcodecs
import numpy as np
import tifffile
import zarr
from PIL import Image
from zarr.codecs import BloscCodec, Crc32cCodec, GzipCodec, ZstdCodec

from segpipe.errors import InputError
from segpipe.readers.zarr_folder import local_ref
from segpipe.records import ImageRef
from tests.bad_images import encoded, photo, tiff

HEIGHT, WIDTH = 83, 109
"""Multiples of no tile."""


def ref_to(path: Path, fragment: str = "") -> ImageRef:
    """The file or the OME-Zarr at `path`, and a plane of it."""
    ref = local_ref(str(path), path.name)
    return replace(ref, uri=ref.uri + fragment)


def rgb() -> np.ndarray:
    return photo(HEIGHT, WIDTH)


def grey(dtype: str = "uint16") -> np.ndarray:
    return (rgb()[:, :, 0].astype(np.int64) * 200).astype(dtype)


def exif_turned(orientation: int, kind: str, **options: object) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(Image.fromarray(rgb()), kind, exif=exif, **options)


def _palette() -> bytes:
    image = Image.fromarray(rgb()).convert("P", palette=Image.Palette.ADAPTIVE)
    return encoded(image, "TIFF")


def _cmyk() -> bytes:
    ink = np.dstack([rgb(), rgb()[:, :, 1]])
    return tiff(ink, photometric="separated", tile=(32, 32), compression="deflate")


def _nan() -> np.ndarray:
    values = grey("float32")
    values[::7, ::5] = np.nan
    return values


FILES: dict[str, Callable[[], bytes]] = {
    "tiled.tif": lambda: tiff(rgb(), photometric="rgb", tile=(16, 32), compression="deflate"),
    "big_tiled.tif": lambda: tiff(grey(), bigtiff=True, tile=(32, 16), compression="zstd"),
    "big_endian.tif": lambda: tiff(grey(), byteorder=">", tile=(32, 32), compression="lzw",
                                   predictor=True),
    "strips.tif": lambda: tiff(grey(), rowsperstrip=7, compression="deflate", predictor=True),
    "one_strip.tif": lambda: tiff(grey(), rowsperstrip=HEIGHT, byteorder=">"),
    "one_packed_strip.tif": lambda: tiff(rgb(), photometric="rgb", rowsperstrip=HEIGHT,
                                         compression="deflate"),
    "planes.tif": lambda: tiff(np.moveaxis(rgb(), -1, 0), photometric="rgb", tile=(32, 32),
                               planarconfig="separate", compression="deflate"),
    "plane_strips.tif": lambda: tiff(np.moveaxis(rgb(), -1, 0), photometric="rgb",
                                     planarconfig="separate", rowsperstrip=HEIGHT),
    "jpeg_tiles.tif": lambda: tiff(rgb(), photometric="rgb", tile=(32, 32), compression="jpeg"),
    "alpha.tif": lambda: tiff(np.dstack([rgb(), rgb()[:, :, 0]]), photometric="rgb",
                              extrasamples=["unassalpha"], tile=(16, 16)),
    "white.tif": lambda: tiff(rgb()[:, :, 0], photometric="miniswhite", tile=(16, 16)),
    "one_bit.tif": lambda: tiff(rgb()[:, :, 0] > 90, photometric="minisblack", rowsperstrip=9),
    "palette.tif": _palette,
    "cmyk.tif": _cmyk,
    "float_nan.tif": lambda: tiff(_nan(), tile=(32, 32), compression="deflate"),
    "turned.tif": lambda: tiff(rgb(), photometric="rgb", tile=(16, 32),
                               extratags=[(274, "H", 1, 6, True)]),
    "mirrored.tif": lambda: tiff(rgb(), photometric="rgb", rowsperstrip=5,
                                 extratags=[(274, "H", 1, 7, True)]),
    "rgb.png": lambda: encoded(rgb(), "PNG"),
    "rgb.jpg": lambda: encoded(rgb(), "JPEG"),
    "turned.jpg": lambda: exif_turned(8, "JPEG"),
    "turned.png": lambda: exif_turned(5, "PNG"),
    "rgb.webp": lambda: encoded(rgb(), "WEBP"),
}  # fmt: skip
"""Name -> content; pixels of each are what `Reader` reads."""


def stack(channels: int = 4, depth: int = 3, times: int = 2) -> np.ndarray:
    """(T, C, Z, H, W) uint16: planes that differ everywhere."""
    planes = np.arange(times * channels * depth, dtype=np.uint16) * 700
    return planes.reshape(times, channels, depth, 1, 1) + grey() // 40


def ome_tiff(path: Path, **options: object) -> np.ndarray:
    """A pyramid of planes with a pixel size of 0.25 x 0.5 micrometres; (T, C, Z, H, W)."""
    data = stack()
    metadata = {"axes": "TCZYX", "PhysicalSizeY": 250.0, "PhysicalSizeYUnit": "nm",
                "PhysicalSizeX": 0.5, "PhysicalSizeXUnit": "µm"}  # fmt: skip
    options = {"tile": (32, 32), "compression": "deflate", **options}
    with tifffile.TiffWriter(path, ome=True, bigtiff=True) as writer:
        writer.write(data, subifds=2, metadata=metadata, **options)
        for step in (2, 4):
            writer.write(data[..., ::step, ::step], subfiletype=1, **options)
    return data


_KEYS = (1, 1, 0, 3, 1024, 0, 1, 1, 1025, 0, 1, 1, 3072, 0, 1, 32633)
GEO_TAGS = [
    (33550, "d", 3, (10.0, 10.0, 0.0), True),
    (33922, "d", 6, (0.0, 0.0, 0.0, 500_000.0, 5_000_000.0, 0.0), True),
    (34735, "H", len(_KEYS), _KEYS, True),
    (42113, "s", 0, "0", True),
]
"""EPSG:32633, 10 m to a pixel."""


def geo_tiff(path: Path) -> np.ndarray:
    """A GeoTIFF with two overviews behind it."""
    options = {"photometric": "rgb", "tile": (16, 16), "compression": "deflate", "metadata": None}
    with tifffile.TiffWriter(path) as writer:
        writer.write(rgb(), extratags=GEO_TAGS, **options)
        for step in (2, 4):
            writer.write(rgb()[::step, ::step], subfiletype=1, **options)
    return rgb()


ZARRS = {
    "blosc_2": {"zarr_format": 2, "dimension_separator": "/", "compressors": "blosc"},
    "zlib_2": {"zarr_format": 2, "dimension_separator": ".", "compressors": "zlib"},
    "zstd_3": {"zarr_format": 3, "compressors": ZstdCodec(level=1)},
    "gzip_3": {"zarr_format": 3, "compressors": [GzipCodec(), Crc32cCodec()]},
    "blosc_3": {"zarr_format": 3, "compressors": BloscCodec(typesize=2)},
    "plain_3": {"zarr_format": 3, "compressors": None},
    "shards_3": {"zarr_format": 3, "compressors": ZstdCodec(level=1), "shards": True},
}


def ome_zarr(path: Path, kind: str, data: np.ndarray | None = None) -> np.ndarray:
    """An OME-Zarr of two levels, 0.25 x 0.5 micrometres to a pixel; (T, C, Z, H, W).

    Some of its chunks were never written.
    """
    data = stack() if data is None else data
    data[..., 32:64, 32:64] = 0
    options = dict(ZARRS[kind])
    zarr_format = options.pop("zarr_format")
    if options.get("compressors") == "blosc":
        options["compressors"] = numcodecs.Blosc(cname="lz4")
    elif options.get("compressors") == "zlib":
        options["compressors"] = numcodecs.Zlib()
    separator = options.pop("dimension_separator", None)
    sharded = options.pop("shards", False)
    if separator:
        options["chunk_key_encoding"] = {"name": "v2", "separator": separator}
    group = zarr.create_group(path, zarr_format=zarr_format)
    for level, step in enumerate((1, 2)):
        pixels = data[..., ::step, ::step]
        array = group.create_array(
            str(level), shape=pixels.shape, dtype=pixels.dtype, chunks=(1, 2, 1, 32, 32),
            shards=(1, 4, 1, 64, 64) if sharded else None, fill_value=0, **options,
        )  # fmt: skip
        array[:] = pixels
    multiscales = [{"axes": ome_axes(), "datasets": [
        {"path": str(level), "coordinateTransformations": [
            {"type": "scale", "scale": [1, 1, 1, 0.25 * 2**level, 500 * 2**level]}]}
        for level in (0, 1)], "version": "0.4"}]  # fmt: skip
    if zarr_format == 2:
        group.attrs["multiscales"] = multiscales
    else:
        group.attrs["ome"] = {"version": "0.5", "multiscales": multiscales}
    return data


def ome_axes() -> list[dict[str, str]]:
    units = {"y": "micrometer", "x": "nanometer"}
    return [{"name": name, "type": "space", "unit": units.get(name, "")} for name in "tczyx"]


def error_of(call: Callable[[], object]) -> InputError:
    """What `call` is refused with."""
    try:
        call()
    except InputError as error:
        return error
    raise AssertionError("nothing was refused")


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path
