"""`segpipe query` beyond a table: pixels of what was found, questions that are kept, columns."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

import segpipe as library
from segpipe.query import describe, query
from segpipe.query.views import VIEWS
from segpipe.store import create_store
from tests.generated import SPEC, ThresholdSegmenter
from tests.integration.conftest import Command
from tests.nights import Nights

ALL = "SELECT image_id, label, area FROM latest_objects"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    nights = Nights(create_store(tmp_path / "store"), tmp_path / "images")
    nights.add_images(3, broken=1)
    colour = np.zeros((40, 50, 3), np.uint8)
    colour[10:20, 12:30] = 200, 150, 170
    Image.fromarray(colour).save(tmp_path / "images" / "colour.png")
    deep = np.zeros((40, 50), np.uint16)
    deep[2:9, 3:11] = 40_000
    tifffile.imwrite(tmp_path / "images" / "deep.tif", deep)
    (tmp_path / "images" / "=cmd, <b>.png").write_bytes(
        (tmp_path / "images" / "colour.png").read_bytes()
    )
    nights()
    return tmp_path


def rows_of(out: Path) -> list[dict[str, str]]:
    with (out / "index.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    # A name that a spreadsheet would run as a formula has an apostrophe before it.
    return [{key: value.removeprefix("'") for key, value in row.items()} for row in rows]


def test_crops_are_the_pixels_of_the_objects(folder: Path, segpipe: Command) -> None:
    out = folder / "out"
    code, said, _ = segpipe("query", folder / "store", ALL, "--crop", out, "--margin", "2")
    archive = library.open_store(folder / "store")
    objects = archive.objects().arrow().to_pylist()
    rows = {(row["image_id"], int(row["label"])): row for row in rows_of(out)}
    assert code == 0
    assert f"{len(objects)} objects from" in said
    assert len(rows) == len(objects) > 5
    kinds = set()
    for one in objects:
        row = rows[one["image_id"], one["label"]]
        pixels = archive.image(one["image_id"])
        height, width = pixels.shape[:2]
        y, x = (
            slice(max(0, one[f"bbox_{a}0"] - 2), min(size, one[f"bbox_{a}1"] + 2))
            for a, size in (("y", height), ("x", width))
        )
        crop = np.atleast_3d(np.array(Image.open(out / row["crop"])))
        assert crop.dtype == pixels.dtype
        assert np.array_equal(crop, pixels[y, x])
        masked = np.atleast_3d(np.array(Image.open(out / row["masked"])))
        mask = archive.mask(one["image_id"], one["label"])[y, x]
        if pixels.dtype == np.uint8:
            assert np.array_equal(masked[..., -1] == 255, mask)
            assert np.array_equal(masked[..., :-1], crop)
        else:
            assert np.array_equal(masked[..., 0], np.where(mask, crop[..., 0], 0))
        kinds.add((pixels.dtype.name, pixels.shape[2]))
    assert kinds == {("uint8", 1), ("uint8", 3), ("uint16", 1)}


def test_names_stay_below_and_are_no_formula(folder: Path, segpipe: Command) -> None:
    out = folder / "out"
    segpipe("query", folder / "store", ALL, "--crop", out)
    assert {path.relative_to(out).parts[0] for path in out.iterdir()} >= {"=cmd, <b>", "01"}
    assert not any(line.startswith("=") for line in (out / "index.csv").read_text().split(","))


def test_an_image_that_is_gone_costs_its_crops_alone(folder: Path, segpipe: Command) -> None:
    (folder / "images" / "deep.tif").unlink()
    code, said, _ = segpipe("query", folder / "store", ALL, "--crop", folder / "out")
    assert code == 1
    assert "nothing of deep.tif: " in said
    assert len(rows_of(folder / "out")) > 5


def test_overlays_are_written_for_each_image(folder: Path, segpipe: Command) -> None:
    out = folder / "out"
    code, said, _ = segpipe(
        "query", folder / "store", "SELECT image_id FROM latest_images", "--overlay", out
    )
    assert code == 1  # the broken one has none
    assert "6 overlays from 6 images" in said
    assert "it failed: " in said
    assert len(list(out.rglob("*.png"))) == 6
    archive = library.open_store(folder / "store")
    index = rows_of(out)
    assert len(index) == 6
    for row in index:
        image = archive.find_image(row["image_id"])
        assert row["path"] == image["path"]
        with Image.open(out / row["overlay"]) as drawn:
            assert drawn.size[0] >= image["width"]


def test_each_result_of_an_image_has_a_file_of_its_own(tmp_path: Path, segpipe: Command) -> None:
    nights = Nights(create_store(tmp_path / "store"), tmp_path / "images")
    nights.add_images(1)
    nights()
    nights.segmenter = ThresholdSegmenter(SPEC.model_copy(update={"batch_images": 2}))
    nights()
    for option in ("--overlay", "--crop"):
        out = tmp_path / option
        code, _, _ = segpipe("query", tmp_path / "store", "SELECT * FROM objects", option, out)
        index = rows_of(out)
        assert code == 0
        name = option.removeprefix("--")
        files = {(row["run_id"], row["label"]): row[name] for row in index}
        results = {row["run_id"] for row in index}
        assert len(results) == 2
        assert len(set(files.values())) == (2 if option == "--overlay" else len(index))
        assert all((out / file).exists() for file in files.values())


def test_two_indices_in_one_folder_are_refused(folder: Path, segpipe: Command) -> None:
    out = folder / "out"
    code, _, error = segpipe("query", folder / "store", ALL, "--crop", out, "--overlay", out)
    assert code == 2
    assert "give two folders" in error
    assert not out.exists()


@pytest.mark.parametrize(
    ("sql", "told"),
    [
        ("SELECT label FROM latest_objects", "no column image_id; select image_id, label"),
        ("SELECT 'x' AS image_id, 1 AS label", "names a result that is not in this store"),
        ("SELECT NULL AS image_id, 1 AS label", "1 rows of the answer have no image_id"),
    ],
)
def test_an_answer_that_names_no_objects_is_refused(
    sql: str, told: str, folder: Path, segpipe: Command
) -> None:
    code, _, error = segpipe("query", folder / "store", sql, "--crop", folder / "out")
    assert code == 2
    assert told in error


# --- parameters, kept queries, columns ----------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ("x=5", 5),
        ("x=0.5", 0.5),
        ("x=nucleus", "nucleus"),
        ('x="5"', "5"),
        ("x=null", None),
        ("x=true", True),
        ("x=' OR 1=1; DROP TABLE images --", "' OR 1=1; DROP TABLE images --"),
        ("x=[1]", "[1]"),
        ("x=", ""),
    ],
)
def test_a_parameter_is_a_value_and_never_sql(
    given: str, found: object, folder: Path, segpipe: Command
) -> None:
    sql = "SELECT $x AS x"
    code, said, _ = segpipe("query", folder / "store", sql, "--param", given, "--format", "json")
    assert code == 0
    assert json.loads(said) == [{"x": found}]


@pytest.mark.parametrize("given", ["x", "1=2", "=3", "a b=1"])
def test_a_parameter_without_a_name_or_value_is_refused(
    given: str, folder: Path, segpipe: Command
) -> None:
    code, _, error = segpipe("query", folder / "store", "SELECT 1", "--param", given)
    assert code == 2
    assert "give NAME=VALUE" in error


def test_a_query_is_kept_used_listed_and_dropped(folder: Path, segpipe: Command) -> None:
    store = folder / "store"
    sql = "SELECT count(*) AS n FROM latest_objects WHERE area > $least"
    assert segpipe("query", store, sql, "--param", "least=0", "--save", "large")[0] == 0
    _, said, _ = segpipe("query", store, "@large", "--param", "least=1", "--format", "json")
    expected = query(library.open_store(store), sql, parameters={"least": 1}).to_pylist()
    assert json.loads(said) == expected
    _, said, _ = segpipe("query", store, "--saved", "--format", "json")
    assert json.loads(said) == [{"name": "large", "query": sql}]
    assert segpipe("fsck", store)[0] == 0
    assert segpipe("query", store, "--drop", "large")[0] == 0
    code, _, error = segpipe("query", store, "@large")
    assert code == 2
    assert "no query 'large' is saved in this store; there are: none" in error


@pytest.mark.parametrize("name", ["../x", "a/b", "", ".x", "x" * 65, "ü"])
def test_a_name_that_is_none_is_refused(name: str, folder: Path, segpipe: Command) -> None:
    code, _, error = segpipe("query", folder / "store", "SELECT 1", "--save", name)
    assert code == 2
    assert "is no name of a query" in error


def test_a_query_that_fails_is_not_kept(folder: Path, segpipe: Command) -> None:
    code, _, _ = segpipe("query", folder / "store", "DROP TABLE images", "--save", "bad")
    assert code == 2
    assert not (folder / "store" / "queries").exists()


def test_every_column_of_every_view_is_described(folder: Path, segpipe: Command) -> None:
    archive = library.open_store(folder / "store")
    for view in VIEWS:
        described = describe(view).to_pylist()
        answer = query(archive, f"FROM {view}")
        assert [row["column"] for row in described] == answer.column_names
        types = [str(kind).replace("l: ", "") for kind in answer.schema.types]
        assert [row["type"] for row in described] == types
    _, said, _ = segpipe("query", folder / "store", "runs", "--schema", "--format", "json")
    assert [row["column"] for row in json.loads(said)] == describe("runs")["column"].to_pylist()
    code, _, error = segpipe("query", folder / "store", "nothing", "--schema")
    assert code == 2
    assert "no view 'nothing'; there are: images" in error
