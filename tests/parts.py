"""A segmenter that looks at parts of large images, images for it, and chunks of them."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from scipy import ndimage

from segpipe.geometry import Box
from segpipe.masks.rle import decode
from segpipe.pipeline import process_chunk
from segpipe.readers import list_collection
from segpipe.records import Chunk, CroppedMask, DecodedImage, Header, Segmentation
from segpipe.segmenters.base import DeviceMemoryError, Footprint, View
from segpipe.segmenters.splitting import classes_of, regions_of
from segpipe.spec import Limits, RangeScaling, Tiles
from segpipe.store import Snapshot, create_store
from tests.generated import SPEC

SIDE, HALO = 128, 32
TILES = Tiles(side=SIDE, halo=HALO, max_image_pixels=1 << 31)


class Parts:
    """Bright connected pixels are objects; their classes are their grey values, if `semantic`."""

    scaling = RangeScaling()
    min_area = 1

    def __init__(self, semantic: bool = False, most: int = 4, tiles: Tiles | None = TILES) -> None:
        task = "semantic" if semantic else "instances"
        model = SPEC.model.model_copy(
            update={"task": task, "classes": ("background", "one", "two")}
        )
        limits = Limits(max_pixels=SIDE * SIDE)
        changed = {"model": model, "limits": limits, "batch_images": 4, "tiles": tiles}
        self.spec = SPEC.model_copy(update=changed)
        self.most = most
        self.views: list[View] = []

    def footprint(self, header: Header) -> Footprint:
        pixels = header.height * header.width
        return Footprint(pixels, pixels, pixels, pixels)

    def prepare(self, image: DecodedImage) -> np.ndarray:
        return self.prepare_part(image, View(0, 255))

    def prepare_part(self, part: DecodedImage, view: View) -> np.ndarray:
        self.views.append(view)
        return (part.pixels[..., 0] - view.low) / max(1.0, view.high - view.low)

    def part_footprint(self, header: Header, magnification: float) -> Footprint:
        assert self.spec.tiles
        assert max(header.shape) * magnification <= max(192, self.spec.tiles.side)
        return self.footprint(header)

    def magnification(self, areas: np.ndarray) -> float:
        return 2.0 if len(areas) and np.median(areas) < 12 else 1.0

    def forward(self, batch: Sequence[np.ndarray]) -> list[np.ndarray]:
        assert len({one.shape for one in batch}) == 1
        if len(batch) > self.most:
            raise DeviceMemoryError("too many")
        return list(batch)

    def finish(self, raw: np.ndarray, image: DecodedImage) -> Segmentation:
        assert raw.shape == image.header.shape
        if self.spec.model.task == "semantic":
            semantic, sure = self.classes(raw, image.header.shape)
            labels, scores, class_ids = regions_of(semantic, sure, self.min_area)
            return Segmentation(labels, scores, class_ids, semantic=semantic)
        labels, count = ndimage.label(raw > 0.25)
        return Segmentation(
            labels.astype(np.uint32), np.full(count, 0.5, np.float32), np.ones(count, np.int32)
        )

    def classes(self, raw: np.ndarray, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        assert raw.shape == shape
        maps = np.stack([1 - raw, raw * (raw > 0.7), raw * (raw <= 0.7)]).astype(np.float32)
        return classes_of(maps, 0.4)


def scene(seed: int, shape: tuple[int, int], largest: int, most: int = 60) -> np.ndarray:
    """Rectangles anywhere, on borders and corners of parts too; the first and last pixel tell the
    range of the values.
    """
    rng = np.random.default_rng(seed)
    pixels = np.zeros((*shape, 1), np.uint8)
    for _ in range(rng.integers(1, most)):
        y, x = rng.integers(0, shape[0]), rng.integers(0, shape[1])
        height, width = rng.integers(1, largest + 1, 2)
        free = pixels[max(0, y - 1) : y + height + 1, max(0, x - 1) : x + width + 1]
        if not free.any():
            pixels[y : y + height, x : x + width] = 255
    return pixels


def chunk_in(folder: Path, segmenter: Any) -> Chunk:
    return Chunk(segmenter.spec.spec_id, tuple(list_collection(str(folder / "images"))))


def keep(folder: Path, pixels: np.ndarray, name: str = "one.tif", **options: Any) -> None:
    (folder / "images").mkdir(exist_ok=True)
    options = {"tile": (64, 64), "compression": "zlib", **options}
    tifffile.imwrite(folder / "images" / name, pixels.squeeze(2), **options)


def through_store(segmenter: Any, image: DecodedImage) -> Segmentation:
    """What a store says of an image that was processed under a segmenter's spec."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        keep(folder, image.pixels)
        files = create_store(folder / "store")
        process_chunk(chunk_in(folder, segmenter), segmenter, files, "run")
        snapshot = Snapshot(files)
        (row,) = snapshot.image_rows()
        assert row["status"] == "ok", row["detail"]
        objects = snapshot.objects_of(row)
        return Segmentation(
            snapshot.label_image(row).astype(np.uint32),
            np.array([one["score"] for one in objects], np.float32),
            np.array([one["class_id"] for one in objects], np.int32),
            {one["label"]: _own_mask(one, row) for one in objects if one["rle"] is not None},
            snapshot.semantic(row),
            row["saturated"],
        )


def _own_mask(one: dict[str, Any], row: dict[str, Any]) -> CroppedMask:
    box = Box(one["bbox_y0"], one["bbox_x0"], one["bbox_y1"], one["bbox_x1"])
    whole = decode(one["rle"], (row["height"], row["width"]))
    return CroppedMask(box.y0, box.x0, whole[box.slices].astype(np.bool_))
