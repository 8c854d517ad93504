"""A truth in the store: its objects are those of its files, and it hides no result."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage.measure import label

import segpipe as library
from segpipe.archive import Archive
from segpipe.export.coco import export_coco
from segpipe.export.labels import export_labels
from segpipe.masks.rle import encode
from segpipe.query import query
from segpipe.records import CroppedMask
from segpipe.report.morning import newest_night
from segpipe.store import create_store
from segpipe.store.digest import logical_digest
from segpipe.store.fsck import check_store
from tests.integration.conftest import Command
from tests.nights import Nights


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    nights = Nights(create_store(tmp_path / "store"), tmp_path / "images")
    nights.add_images(4, broken=1)
    nights()
    return tmp_path


def label_images(folder: Path) -> Path:
    """A truth that is the threshold's answer, one object less in each image."""
    truth = folder / "labels"
    for path in sorted((folder / "images" / "01").glob("field-0*.png")):
        labels = label(np.array(Image.open(path)) > 128).astype(np.uint16)
        labels[labels == 1] = 0
        truth.mkdir(exist_ok=True)
        Image.fromarray(labels).save(truth / path.name)
    return truth


def open_again(folder: Path) -> Archive:
    return library.open_store(folder / "store")


def test_label_images_become_a_run_that_hides_nothing(folder: Path, segpipe: Command) -> None:
    before = open_again(folder)
    latest = query(before, "FROM latest_images ORDER BY path").to_pylist()
    objects = query(before, "FROM latest_objects ORDER BY image_id, label").to_pylist()
    code, said, _ = segpipe("import", folder / "store", "--truth", label_images(folder), "--json")
    assert code == 0
    assert json.loads(said)["ok"] == 4

    archive = open_again(folder)
    assert query(archive, "FROM latest_images ORDER BY path").to_pylist() == latest
    assert query(archive, "FROM latest_objects ORDER BY image_id, label").to_pylist() == objects
    assert [row["path"] for row in archive.image_rows()] == [row["path"] for row in latest]
    truth = archive.of_model("truth")
    for row in truth.image_rows():
        expected = np.array(Image.open(folder / "labels" / Path(row["path"]).name))
        found = truth.label_image(row)
        assert np.array_equal(found > 0, expected > 0)
        assert row["n_objects"] == len(np.unique(expected)) - 1
        for one in truth.objects_of(row):
            assert one["score"] is None
            assert one["class_name"] == "object"
            assert min(one["min_intensity"]) > 128
    assert list(check_store(archive.files)) == []


def test_again_nothing_is_done_and_another_truth_is_a_new_result(
    folder: Path, segpipe: Command
) -> None:
    truth = label_images(folder)
    _, text, _ = segpipe("import", folder / "store", "--truth", truth)
    assert "images imported, " in text
    assert "segmented" not in text
    _, said, _ = segpipe("import", folder / "store", "--truth", truth, "--json")
    told = json.loads(said)
    assert (told["ok"], told["skipped"]) == (0, 4)
    Image.fromarray(np.ones((64, 64), np.uint16)).save(truth / "field-00.png")
    _, said, _ = segpipe("import", folder / "store", "--truth", truth, "--json")
    assert json.loads(said)["ok"] == 4
    rows = open_again(folder).of_model("truth").image_rows()
    assert next(rows)["n_objects"] == 1


def test_sql_joins_truth_and_prediction(folder: Path, segpipe: Command) -> None:
    segpipe("import", folder / "store", "--truth", label_images(folder))
    counts = query(
        open_again(folder),
        "SELECT p.n_objects - t.n_objects AS more FROM latest_images p "
        "JOIN images t USING (image_id) WHERE t.model = 'truth'",
    )
    assert counts["more"].to_pylist() == [1] * 4
    _, said, _ = segpipe("diff", folder / "store", "truth", "threshold", "--json")
    told = json.loads(said)
    assert (told["objects"]["gained"], told["objects"]["lost"]) == (4, 0)
    assert told["objects"]["changed"] == 0
    assert told["not_compared"] == {"only after": 1}


def test_coco_keeps_classes_overlaps_and_leaves_crowds_out(folder: Path, segpipe: Command) -> None:
    large, small = (
        CroppedMask(y, x, np.ones((s, s), bool)) for y, x, s in ((2, 3, 30), (10, 10, 6))
    )
    regions = (large, 3, 0), (small, 5, 0), (large, 3, 1)
    annotations = [
        {
            "id": number, "image_id": 7, "category_id": category, "iscrowd": crowd,
            "segmentation": {"size": [64, 64], "counts": encode(mask, (64, 64))},
            "bbox": [0, 0, 1, 1], "area": 1,
        }
        for number, (mask, category, crowd) in enumerate(regions, 1)
    ]  # fmt: skip
    content = {
        "images": [{"id": 7, "file_name": "01/field-02.png", "height": 64, "width": 64}],
        "annotations": annotations,
        "categories": [{"id": 3, "name": "cell"}, {"id": 5, "name": "speck"}],
    }
    path = folder / "truth.json"
    path.write_text(json.dumps(content))
    _, said, _ = segpipe("import", folder / "store", "--truth", path, "--name", "truth-coco")
    assert "1 crowd regions left out" in said
    archive = open_again(folder).of_model("truth-coco")
    (row,) = archive.image_rows()
    found = {one["class_name"]: one for one in archive.objects_of(row)}
    assert {name: one["area"] for name, one in found.items()} == {"cell": 900, "speck": 36}
    assert archive.mask(row, found["cell"]["label"]).sum() == 900
    assert archive.label_image(row)[12, 12] == found["speck"]["label"]


def test_what_was_exported_and_imported_is_the_same(folder: Path, segpipe: Command) -> None:
    archive = open_again(folder)
    export_labels(archive, folder / "png")
    export_coco(archive, folder / "coco")
    segpipe("import", folder / "store", "--truth", folder / "png", "--name", "truth-png")
    coco = folder / "coco" / "instances.json"
    segpipe("import", folder / "store", "--truth", coco, "--name", "truth-coco")
    for name in ("truth-png", "truth-coco"):
        _, said, _ = segpipe("diff", folder / "store", "threshold", name, "--json")
        assert json.loads(said)["objects"]["same"] == json.loads(said)["objects"]["before"] > 5


def test_a_store_with_a_truth_is_kept_like_any(folder: Path, segpipe: Command) -> None:
    segpipe("import", folder / "store", "--truth", label_images(folder))
    store = folder / "store"
    before = logical_digest(open_again(folder))
    assert segpipe("compact", store)[0] == 0
    assert logical_digest(open_again(folder)) == before
    assert segpipe("fsck", store)[0] == 0
    assert segpipe("gc", store)[0] == 0
    (run,) = {row["run_id"] for row in open_again(folder).of_model("truth").image_rows()}
    assert segpipe("forget", store, run, "--delete")[0] == 0
    rows = open_again(folder).image_rows(latest=False)
    assert {row["model"] for row in rows} == {"threshold"}


def test_a_truth_is_no_night(folder: Path, segpipe: Command) -> None:
    files = open_again(folder).files
    night = newest_night(files)
    segpipe("import", folder / "store", "--truth", label_images(folder))
    assert newest_night(files) == night


def test_an_image_that_is_gone_is_a_row_with_a_reason(folder: Path, segpipe: Command) -> None:
    truth = label_images(folder)
    (folder / "images" / "01" / "field-01.png").unlink()
    path = folder / "images" / "01" / "field-02.png"
    path.write_bytes((folder / "images" / "01" / "field-03.png").read_bytes()[:-1] + b"x")
    _, said, _ = segpipe("import", folder / "store", "--truth", truth, "--json")
    assert json.loads(said)["failed"] == 2
    rows = open_again(folder).of_model("truth").image_rows()
    assert [row["status"] for row in rows] == ["ok", "failed", "failed", "ok"]


@pytest.mark.parametrize(
    ("name", "told"), [("truth", "has the name of one of the 4 segmented"), ("cells", "truth-")]
)
def test_what_fits_nothing_is_refused(name: str, told: str, folder: Path, segpipe: Command) -> None:
    truth = label_images(folder)
    if name == "truth":
        for path in truth.iterdir():
            path.rename(path.with_name(f"other-{path.name}"))
    code, _, error = segpipe("import", folder / "store", "--truth", truth, "--name", name)
    assert code == 2
    assert told in error
