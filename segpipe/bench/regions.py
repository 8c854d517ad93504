"""How long a region of a large image takes, by the format it lies in."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import tifffile
from PIL import Image

from segpipe.bench.table import table
from segpipe.demo_fields import Scene, simulate_field
from segpipe.geometry import Box
from segpipe.readers.names import file_uri
from segpipe.readers.regions import RegionLimits, RegionSource, open_regions
from segpipe.records import ImageRef, Pixels
from segpipe.store.ome_zarr import write_ome_zarr

REGION = 1024
_FIELD = 512
_LIMITS = RegionLimits(memory_bytes=4 << 30, kept_bytes=4 << 30, decode_seconds=600)


def measure(
    side: int, folder: Path, rounds: int, observe: Callable[[str], None]
) -> list[dict[str, Any]]:
    """Write an image of `side` x `side` in each format, and read regions of it that do not overlap.

    Returns:
        For each format `format`, `bytes` of the file, `first`: seconds to open it and read a
        region; `region`: median, and `worst`, of those after that.
    """
    grey, rgb = _pixels(side)
    found = []
    for name, write in _writers().items():
        observe(f"{name}, {side:,} x {side:,} pixels")
        path = folder / "image"
        path = write(path, rgb if "RGB" in name else grey)
        found.append({"format": name, "bytes": _size(path), **_times(path, side, rounds)})
    return found


def as_text(outcome: Sequence[Mapping[str, Any]], side: int) -> str:
    """The outcome as a table."""
    rows = [("format", "MB", "first, ms", "region, ms", "worst, ms")]
    for one in outcome:
        times = (f"{1000 * one[key]:,.1f}" for key in ("first", "region", "worst"))
        rows.append((one["format"], f"{one['bytes'] / 1e6:,.0f}", *times))
    head = f"regions of {REGION:,} x {REGION:,} of {side:,} x {side:,} pixels"
    return f"{head}\n{table(rows)}"


def _times(path: Path, side: int, rounds: int) -> dict[str, float]:
    began = time.perf_counter()
    with open_regions(ImageRef(file_uri(str(path)), path.name, 0, 0), _LIMITS) as source:
        boxes = _boxes(side, rounds + 1)
        source.read(next(boxes))
        first = time.perf_counter() - began
        taken = [_seconds(source, box) for box in boxes]
    return {"first": first, "region": median(taken), "worst": max(taken)}


def _seconds(source: RegionSource, box: Box) -> float:
    began = time.perf_counter()
    source.read(box)
    return time.perf_counter() - began


def _boxes(side: int, n: int) -> Iterator[Box]:
    """Places of a grid in the order of chance, so that none has pixels of one before."""
    across = side // REGION
    places = np.random.default_rng(0).permutation(across * across)[:n].tolist()
    for place in places:
        y, x = REGION * (place // across), REGION * (place % across)
        yield Box(y, x, y + REGION, x + REGION)


def _pixels(side: int) -> tuple[Pixels, Pixels]:
    """(side, side) uint16 and (side, side, 3) uint8 of cells and noise."""
    rng = np.random.default_rng(0)
    field, _ = simulate_field(rng, (_FIELD, _FIELD), 40, Scene())
    repeats = -(-side // _FIELD)
    grey = np.tile(field, (repeats, repeats))[:side, :side].astype(np.uint16)
    grey += rng.integers(0, 256, grey.shape, np.uint16)  # or each row would be packed as repeats
    shown = (grey.astype(np.float32) * (255 / max(1, int(grey.max())))).astype(np.uint8)
    return grey, np.dstack([shown, 255 - shown, shown])


def _writers() -> dict[str, Callable[[Path, Pixels], Path]]:
    """Format -> writes pixels at a path, or beside it, and says where."""

    def tiff(**options: Any) -> Callable[[Path, Pixels], Path]:
        def write(path: Path, pixels: Pixels) -> Path:
            tifffile.imwrite(path, pixels, metadata=None, **options)
            return path

        return write

    def pillow(kind: str) -> Callable[[Path, Pixels], Path]:
        def write(path: Path, pixels: Pixels) -> Path:
            Image.fromarray(pixels).save(path, kind)
            return path

        return write

    def zarr(path: Path, pixels: Pixels) -> Path:
        path = path.with_suffix(".ome.zarr")
        write_ome_zarr(path, path.stem, pixels[:, :, np.newaxis], {})
        return path

    tile = {"tile": (256, 256)}
    return {
        "TIFF, tiles 256, plain": tiff(**tile),
        "TIFF, tiles 256, deflate": tiff(**tile, compression="deflate", predictor=True),
        "BigTIFF, tiles 512, zstd": tiff(tile=(512, 512), compression="zstd", bigtiff=True),
        "TIFF, tiles 256, LZW": tiff(**tile, compression="lzw", predictor=True),
        "TIFF, strips of 16 rows, deflate": tiff(rowsperstrip=16, compression="deflate"),
        "TIFF, one strip, plain": tiff(),
        "TIFF, tiles 256, JPEG, RGB": tiff(**tile, compression="jpeg", photometric="rgb"),
        "OME-Zarr 0.5, chunks 1024, zstd": zarr,
        "PNG": pillow("PNG"),
        "JPEG, RGB": pillow("JPEG"),
    }


def _size(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else (path,)
    return sum(file.stat().st_size for file in files if file.is_file())
