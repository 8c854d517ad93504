"""The same results twice: in a stack of masks, and as those of a large image, with their pyramid.

What looks at results says the same of both.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import tifffile
from skimage.measure import label

from segpipe.geometry import Box
from segpipe.measure.properties import measure_objects
from segpipe.object_rows import ObjectRows
from segpipe.readers import Reader
from segpipe.records import Chunk, CroppedMask, ImageRef, Segmentation
from segpipe.schema import IMAGES
from segpipe.spec import Limits
from segpipe.store import Snapshot, create_store
from segpipe.store.commits import Attempt
from segpipe.store.files import Files
from segpipe.store.masks import MaskWriter
from segpipe.store.pyramids import PyramidWriter, blocks
from tests.generated import SPEC
from tests.region_files import ref_to

SHAPE = 1300, 1100
CLASSES = ("background", "cell", "debris")
RUN = "20261101T030000000Z-00000a"


@dataclass(frozen=True, eq=False)
class Scene:
    """An image and what was found in it."""

    pixels: np.ndarray
    segmentation: Segmentation


def scene(
    seed: int = 0,
    shape: tuple[int, int] = SHAPE,
    colours: int = 1,
    dtype: type = np.uint8,
    semantic: bool = False,
    count: int = 60,
) -> Scene:
    """Bright discs on noise; the first one is whole in its box, hidden by others."""
    rng = np.random.default_rng(seed)
    plane = rng.integers(10, 60, shape).astype(np.uint16)
    for _ in range(count):
        y, x, radius = rng.integers(0, shape[0]), rng.integers(0, shape[1]), rng.integers(3, 40)
        box = Box(y - radius, x - radius, y + radius, x + radius).clip(shape)
        rows, columns = np.ogrid[box.y0 : box.y1, box.x0 : box.x1]
        disc = (rows - y) ** 2 + (columns - x) ** 2 < radius**2
        plane[box.slices][disc] = rng.integers(150, 250)
    labels = label(plane > 128).astype(np.uint32)
    n = int(labels.max())
    where = np.argwhere(labels == 1)
    (y0, x0), (y1, x1) = where.min(axis=0), where.max(axis=0) + 1
    own = {1: CroppedMask(int(y0), int(x0), np.ones((y1 - y0, x1 - x0), bool))}
    classes = (1 + np.arange(n) % 2).astype(np.int32)
    per_pixel = np.concatenate([[0], classes]).astype(np.uint8)[labels] if semantic else None
    scores = np.linspace(0.9, 0.5, n, dtype=np.float32)
    pixels = np.stack([plane // (1 + channel) for channel in range(colours)], axis=2)
    scaled = pixels * (200 if dtype == np.uint16 else 1)
    return Scene(scaled.astype(dtype), Segmentation(labels, scores, classes, own, per_pixel))


def write_image(path: Path, pixels: np.ndarray, levels: int = 0) -> Path:
    """A tiled TIFF; its further levels are the means of 2 x 2 pixels of the one before."""
    path.parent.mkdir(parents=True, exist_ok=True)
    options = {
        "tile": (256, 256),
        "compression": "zlib",
        "photometric": "rgb" if pixels.shape[2] == 3 else "minisblack",
    }
    with tifffile.TiffWriter(path, bigtiff=True) as writer:
        writer.write(pixels.squeeze(), subifds=levels, **options)
        for _ in range(levels):
            height, width = (side // 2 * 2 for side in pixels.shape[:2])
            quarters = [pixels[y:height:2, x:width:2].astype(float) for y in (0, 1) for x in (0, 1)]
            pixels = np.rint(sum(quarters) / 4).astype(pixels.dtype)
            writer.write(pixels.squeeze(), subfiletype=1, **options)
    return path


def add_result(
    files: Files,
    path: Path,
    found: Segmentation,
    large: bool,
    run_id: str = RUN,
    masks: np.ndarray | None = None,
) -> str:
    """A chunk of one image; returns its id.

    Args:
        masks: labels that are written in place of those that were found.
    """
    ref = ref_to(path)
    chunk = Chunk(SPEC.spec_id, (ref,))
    with Reader(Limits(max_pixels=1 << 40)) as reader:
        image = reader.read(ref)
    attempt = Attempt(files, chunk, run_id)
    labels = found.label_image if masks is None else masks
    place = _write_masks(attempt, ref, replace(found, label_image=labels), large)
    keys = {"run_id": run_id, "spec_id": SPEC.spec_id, "chunk_id": chunk.chunk_id}
    keys["image_id"] = ref.image_id
    rows = ObjectRows(CLASSES)
    shown = {name: place[name] for name in ("mask_array", "mask_index")}
    rows.add({**keys, **shown}, found, measure_objects(found, image.pixels))
    header = {name: getattr(image.header, name) for name in (
        "height", "width", "channels", "dtype", "format", "decoder", "orientation", "n_frames",
    )}  # fmt: skip
    row = {
        **keys, **header, **place, "model": "threshold", "uri": ref.uri, "path": ref.path,
        "size_bytes": ref.size_bytes, "mtime_ns": ref.mtime_ns, "sha256": image.sha256,
        "status": "ok", "n_nonfinite": 0, "n_objects": found.n_objects, "n_discarded": 0,
        "saturated": False, "input_changed": False,
    }  # fmt: skip
    attempt.write_table("objects", rows.columns())
    attempt.write_table("images", {column.name: [row.get(column.name)] for column in IMAGES})
    attempt.commit(n_images=1, n_ok=1, n_objects=found.n_objects)
    return chunk.chunk_id


def _write_masks(
    attempt: Attempt, ref: ImageRef, found: Segmentation, large: bool
) -> dict[str, object]:
    planes = {"label_image": found.label_image}
    dtypes = {"label_image": np.uint32}
    if found.semantic is not None:
        planes["semantic"], dtypes["semantic"] = found.semantic, np.uint8
    shape = found.label_image.shape
    writer: MaskWriter | PyramidWriter
    if large:
        writer = attempt.pyramid_writer(ref.image_id, shape, dtypes)
        group, level, index = writer.group, "/0", None
        for block in blocks(shape):
            writer.write(block, {name: plane[block.slices] for name, plane in planes.items()})
    else:
        group, level = attempt.group, ""
        writer = attempt.mask_writer([shape], dtypes)
        index = writer.append(planes)
    attempt.close_masks(writer)
    return {
        "mask_array": f"{group}/label_image{level}",
        "mask_index": index,
        "semantic_array": f"{group}/semantic{level}" if "semantic" in planes else None,
    }


@dataclass(frozen=True)
class Twins:
    """One image with one result, small in one store and large in the other."""

    image: Path
    small: Files
    large: Files

    @property
    def snapshots(self) -> tuple[Snapshot, Snapshot]:
        return Snapshot(self.small), Snapshot(self.large)


def twins(root: Path, one: Scene, levels: int = 0, name: str = "scan.tif") -> Twins:
    path = write_image(root / "images" / name, one.pixels, levels)
    stores = [create_store(root / name) for name in ("small", "large")]
    for files, large in zip(stores, (False, True), strict=True):
        add_result(files, path, one.segmentation, large)
    return Twins(path, *stores)
