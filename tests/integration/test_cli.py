"""The commands that look at a store, as a person calls them."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from PIL import Image

from segpipe.pipeline import process_chunk
from segpipe.store import create_store
from tests.generated import ThresholdSegmenter, chunk_of, make_collection
from tests.integration.conftest import Command
from tests.large_rows import scene, twins


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_collection(tmp_path_factory.mktemp("images"), 8, broken=[5])


@pytest.fixture(scope="module")
def store(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    files = create_store(tmp_path_factory.mktemp("store"))
    process_chunk(chunk_of(images), ThresholdSegmenter(), files, "run")
    return files.root


def test_export_then_eval_agrees_with_itself(segpipe: Command, store: Path, tmp_path: Path) -> None:
    code, out, _ = segpipe("export", store, "--format", "png", "--out", tmp_path, "--json")
    assert code == 0
    exported = json.loads(out)
    assert (exported["images"], exported["failed"]) == (7, 1)
    code, out, _ = segpipe("eval", store, "--truth", tmp_path, "--json")
    assert code == 0
    agreement = json.loads(out)
    assert agreement["pooled"]["ap"] == 1
    assert agreement["pooled"]["n_truth"] == exported["objects"] > 0
    code, out, _ = segpipe("eval", store, "--truth", tmp_path)
    assert "average precision" in out


def test_export_coco(segpipe: Command, store: Path, tmp_path: Path) -> None:
    code, out, _ = segpipe("export", store, "--format", "coco", "--out", tmp_path)
    assert code == 0
    assert "7 images" in out
    (made,) = tmp_path.glob("*.json")
    assert len(json.loads(made.read_text())["images"]) == 7


def test_query_formats(segpipe: Command, store: Path) -> None:
    sql = "SELECT path, status FROM images ORDER BY path"
    _, as_json, _ = segpipe("query", store, sql, "--format", "json")
    _, as_csv, _ = segpipe("query", store, sql, "--format", "csv")
    _, as_table, _ = segpipe("query", store, sql)
    rows = json.loads(as_json)
    assert rows == list(csv.DictReader(io.StringIO(as_csv)))
    assert sum(row["status"] == "failed" for row in rows) == 1
    assert rows[0]["path"] in as_table


def test_overlay_by_any_name(segpipe: Command, store: Path, tmp_path: Path) -> None:
    drawn = []
    for name in ("0/image-002.png", "image-002.png"):
        code, _, errors = segpipe("overlay", store, name, "--out", tmp_path / "a.png")
        assert code == 0, errors
        drawn.append((tmp_path / "a.png").read_bytes())
    assert drawn[0] == drawn[1]
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.mode == "RGB"
    code, _, errors = segpipe("overlay", store, "image-005.png", "--out", tmp_path / "b.png")
    assert code == 2
    assert "has no masks" in errors


def test_a_region_is_drawn_in_full(segpipe: Command, tmp_path: Path) -> None:
    twins(tmp_path, scene(1, (600, 500)))
    for store in (tmp_path / "small", tmp_path / "large"):
        asked = ["overlay", store, "scan.tif", "--out", tmp_path / "a.png", "--region"]
        code, told, errors = segpipe(*asked, "100,50,300,450")
        assert code == 0, errors
        assert told.strip() == f"{tmp_path / 'a.png'}: region 100,50,300,450 of 600 x 500 px"
        with Image.open(tmp_path / "a.png") as picture:
            assert picture.width == 4 * 400
        for wrong, said in (("1,2,3", "four whole numbers"), ("0,0,700,9", "not inside of its")):
            code, _, errors = segpipe(*asked, wrong)
            assert code == 2
            assert said in errors


def test_overlay_of_a_file_that_changed_is_refused(segpipe: Command, tmp_path: Path) -> None:
    images = make_collection(tmp_path / "images", 2)
    files = create_store(tmp_path / "store")
    process_chunk(chunk_of(images), ThresholdSegmenter(), files, "run")
    Image.new("L", (64, 48)).save(images / "1" / "image-001.png")
    code, _, errors = segpipe("overlay", files.root, "1/image-001.png", "--out", tmp_path / "a.png")
    assert code == 1
    assert "changed since it was segmented" in errors


def test_show_and_models(segpipe: Command, store: Path) -> None:
    code, out, _ = segpipe("show", store)
    assert code == 0
    assert "7 of 8 images ok" in out
    assert "1/image-005.png" in out
    code, out, _ = segpipe("models", "--json")
    cards = {card["name"]: card for card in json.loads(out)}
    assert {"unet-nuclei", "classical", "mask-rcnn-coco", "faster-rcnn-coco"} <= set(cards)
    assert cards["unet-nuclei"]["available"]


def test_results_of_one_model(segpipe: Command, store: Path, tmp_path: Path) -> None:
    arguments = ["export", store, "--format", "png", "--out", tmp_path, "--model"]
    assert segpipe(*arguments, "threshold")[0] == 0
    code, _, errors = segpipe(*arguments, "other")
    assert code == 2
    assert "it has: threshold" in errors


def test_fsck(segpipe: Command, images: Path, tmp_path: Path) -> None:
    files = create_store(tmp_path / "store")
    process_chunk(chunk_of(images), ThresholdSegmenter(), files, "run")
    code, out, _ = segpipe("fsck", files.root)
    assert (code, out) == (0, "all is well\n")
    (part,) = files.root.glob("objects/*.parquet")
    part.write_bytes(part.read_bytes()[:-1])
    code, out, _ = segpipe("fsck", files.root)
    assert code == 1
    assert str(part.relative_to(files.root)) in out


def test_version_and_help(segpipe: Command) -> None:
    assert segpipe("--version")[1].startswith("segpipe ")
    code, out, _ = segpipe("run", "--help")
    assert code == 0
    assert "segpipe run photos/ --store results/" in out
