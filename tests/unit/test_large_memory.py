"""To look at a large image takes less memory than its label image would: it is never whole."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from segpipe.archive import Archive
from segpipe.export.coco import export_coco, export_fiftyone
from segpipe.export.crops import write_crops
from segpipe.export.labels import export_labels
from segpipe.export.ome_zarr import export_ome_zarr
from segpipe.geometry import Box
from segpipe.records import Segmentation
from segpipe.report.diff.image import diff_image
from segpipe.report.picture import draw_image
from segpipe.reproduction.compare import compare_image
from segpipe.store import Snapshot, create_store
from segpipe.store.digest import logical_digest
from segpipe.store.fsck import check_store
from segpipe.viewer.thumbnails import Thumbnails
from segpipe.viewer.tiles import Tiles
from tests.large_rows import add_result, write_image

SHAPE = 9000, 8000
LABELS_BYTES = 4 * SHAPE[0] * SHAPE[1]


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Archive:
    """Few small objects, all over an image whose pixels are few bytes in its file."""
    folder = tmp_path_factory.mktemp("memory")
    pixels, labels = np.full((*SHAPE, 1), 20, np.uint8), np.zeros(SHAPE, np.uint32)
    for label, place in enumerate(np.linspace(0, 7900, 30).astype(int).tolist(), start=1):
        labels[place : place + 60, place : place + 90] = label
        pixels[place : place + 60, place : place + 90] = 200
    found = Segmentation(labels, np.full(30, 0.5, np.float32), np.ones(30, np.int32))
    files = create_store(folder / "store")
    add_result(files, write_image(folder / "scan.tif", pixels), found, large=True)
    return Archive(files)


def tile(snapshot: Snapshot, kind: str, level: int) -> None:
    (row,) = snapshot.image_rows()
    tiles = Tiles()
    tiles.draw(snapshot, row, kind, level, 0, 0)  # type: ignore[arg-type]
    tiles.close()


def crops(snapshot: Snapshot, out: Path) -> None:
    (row,) = snapshot.image_rows()
    answer = pa.table({"image_id": [row["image_id"]] * 3, "label": [1, 15, 30]})
    assert write_crops(snapshot, answer, out, 10).written == 3


def thumbnail(snapshot: Snapshot) -> None:
    (row,) = snapshot.image_rows()
    thumbnails = Thumbnails()
    thumbnails.draw(snapshot, row)
    thumbnails.close()


def twice(snapshot: Snapshot, compare: Callable[..., object]) -> None:
    (row,) = snapshot.image_rows()
    compare(snapshot, snapshot, row, row)


LOOKERS: dict[str, Callable[[Archive, Path], object]] = {
    "fsck": lambda store, _: list(check_store(store.files)),
    "digest": lambda store, _: logical_digest(store),
    "compare": lambda store, _: twice(store, compare_image),
    "diff": lambda store, _: twice(store, diff_image),
    "overlay": lambda store, _: draw_image(store, "scan.tif"),
    "region": lambda store, _: draw_image(store, "scan.tif", Box(7000, 7000, 7600, 7600)),
    "thumbnail": lambda store, _: thumbnail(store),
    "masks": lambda store, _: tile(store, "masks", 0),
    "pixels": lambda store, _: tile(store, "pixels", 4),
    "crops": crops,
    "image": lambda store, _: store.image("scan.tif", level=3),
    "coco": export_coco,
    "fiftyone": lambda store, out: export_fiftyone(store, out, with_images=True),
    "labels": export_labels,
    "ome_zarr": export_ome_zarr,
}


@pytest.mark.parametrize("name", list(LOOKERS))
def test_no_label_image_is_made_of_it(archive: Archive, tmp_path: Path, name: str) -> None:
    tracemalloc.start()
    try:
        LOOKERS[name](archive, tmp_path)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < LABELS_BYTES * 0.8, f"{most:,} bytes"
