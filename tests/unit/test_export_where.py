"""Exports of some images or objects: those that the same condition finds in SQL, in each format."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from segpipe.archive import Archive
from segpipe.errors import SpecError
from segpipe.export.coco import export_coco
from segpipe.export.labels import export_labels
from segpipe.export.selection import select
from segpipe.export.tables import export_parquet
from segpipe.masks.paint import paint
from segpipe.query import query
from segpipe.records import CroppedMask, Instances, Segmentation
from segpipe.store import open_store
from tests.conftest import REPOSITORY
from tests.unit.test_export import files_below, load_coco, make_store
from tests.unit.test_sharing import FORMATS

OBJECTS = {
    "area > 30": "area > 30",
    "class_name = 'debris' -- of these": "class_name = 'debris'",
    "area > 30 AND path LIKE 'b%'": "area > 30 AND path LIKE 'b%'",
    "area > 30 AND image_id IN (SELECT image_id FROM images WHERE n_objects > 1)": (
        "area > 30 AND images.n_objects > 1"
    ),
    "area < 0": "area < 0",
}


def image(*sides: int) -> Segmentation:
    """Squares beside each other; the second is of another class, and overlaps the first."""
    masks = tuple(CroppedMask(2, 9 * k + 1, np.ones((s, s), bool)) for k, s in enumerate(sides))
    scores = np.linspace(0.9, 0.5, len(sides), dtype=np.float32)
    classes = np.array([1 + (k == 1) for k in range(len(sides))], np.int32)
    return paint(Instances(masks, scores, classes), (20, 30))


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Archive:
    folder = tmp_path_factory.mktemp("store")
    made = make_store(
        folder / "store",
        {"a/1.png": image(6, 10, 3), "b/2.png": image(12, 5), "b/3.png": image(2), "c.png": None},
        classes=("background", "cell", "debris"),
        pixels=folder / "images",
    )
    return Archive(made.files)


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("where", OBJECTS)
def test_each_format_has_the_objects_that_sql_finds(
    name: str, where: str, archive: Archive, tmp_path: Path
) -> None:
    expected = query(
        archive,
        "SELECT count(*) AS objects, count(DISTINCT image_id) AS images FROM latest_objects "
        f"JOIN latest_images AS images USING (image_id) WHERE {OBJECTS[where]}",
    ).to_pylist()[0]
    summary = FORMATS[name](select(archive, where), tmp_path)
    assert (summary.images, summary.objects) == (expected["images"], expected["objects"])
    assert summary.failed == 0


@pytest.mark.parametrize("name", FORMATS)
def test_images_are_chosen_with_all_their_objects(
    name: str, archive: Archive, tmp_path: Path
) -> None:
    summary = FORMATS[name](select(archive, "path LIKE 'b%' OR status <> 'ok'"), tmp_path)
    assert (summary.images, summary.objects, summary.failed) == (2, 3, 1)


def test_what_was_not_chosen_is_background(archive: Archive, tmp_path: Path) -> None:
    export_labels(select(archive, "class_name = 'debris'"), tmp_path)
    assert files_below(tmp_path) == ["a/1.png", "b/2.png"]
    with Image.open(tmp_path / "b/2.png") as written:
        whole = archive.label_image(archive.find_image("b/2.png"))
        assert np.array_equal(np.array(written), np.where(whole == 2, whole, 0))
    export_coco(select(archive, "class_name = 'debris'"), tmp_path)
    coco = load_coco(tmp_path / "instances.json")
    for one in coco.loadAnns(coco.getAnnIds()):
        path = coco.loadImgs(one["image_id"])[0]["file_name"]
        assert np.array_equal(coco.annToMask(one), archive.mask(path, 2))


def test_tables_have_the_rows_that_were_chosen(archive: Archive, tmp_path: Path) -> None:
    export_parquet(select(archive, "area > 30"), tmp_path)
    found = pq.read_table(tmp_path / "objects.parquet", columns=["image_id", "label", "area"])
    sql = "SELECT image_id, label, area FROM latest_objects WHERE area > 30"
    key = [("image_id", "ascending"), ("label", "ascending")]
    assert found.sort_by(key).to_pylist() == query(archive, sql).sort_by(key).to_pylist()


def test_classes_outside_of_what_was_chosen_are_background(tmp_path: Path) -> None:
    labels = np.zeros((8, 9), np.uint32)
    labels[1:3, 1:8], labels[5:7, 1:3] = 1, 2
    one = Segmentation(
        labels,
        np.full(2, np.nan, np.float32),
        np.array([1, 2], np.int32),
        semantic=labels.astype(np.uint8),
    )
    snapshot = make_store(tmp_path / "store", {"a.png": one}, classes=("background", "a", "b"))
    export_labels(select(snapshot, "class_name = 'b'"), tmp_path / "out")
    with Image.open(tmp_path / "out" / "a.classes.png") as written:
        assert np.array_equal(np.array(written), np.where(labels == 2, 2, 0))


def test_parts_that_duckdb_does_not_read_itself(tmp_path: Path) -> None:
    """As of a store in a bucket, Arrow reads them."""
    zipfile.ZipFile(REPOSITORY / "tests" / "stores" / "format-1.zip").extractall(tmp_path)
    old = open_store(next(path.parent for path in tmp_path.rglob("segpipe.json")))
    assert old.parquet_files("objects") is None
    expected = query(old, "SELECT count(*) AS n FROM latest_objects WHERE area > 40")
    summary = export_coco(select(old, "area > 40"), tmp_path / "out")
    assert summary.objects == expected["n"][0].as_py() > 0
    assert export_coco(select(old, "height > 0"), tmp_path / "out").objects > summary.objects


@pytest.mark.parametrize(
    "where",
    [
        "1) OR (1",
        "area > 1; DROP TABLE images",
        "nonsense > 1",
        "image_id IN (SELECT * FROM snapshot)",
        "",
    ],
)
def test_what_is_no_condition_is_refused(where: str, archive: Archive) -> None:
    with pytest.raises(SpecError):
        select(archive, where)
