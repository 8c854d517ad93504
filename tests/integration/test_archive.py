"""A store in Python: what `segpipe.open_store` gives is what the tables and the masks hold."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

import segpipe
from segpipe.archive import Archive
from segpipe.errors import InputError, SpecError
from segpipe.masks.rle import encode
from segpipe.query import query
from segpipe.records import CroppedMask
from segpipe.store import create_store
from tests.nights import Nights


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two nights; in the second one some images of the first are new versions."""
    folder = tmp_path_factory.mktemp("archive")
    nights = Nights(create_store(folder / "store"), folder / "images")
    nights.add_images(7, broken=1)
    nights()
    first = folder / "images" / "01"
    (first / "field-00.png").write_bytes((first / "field-01.png").read_bytes())
    nights.add_images(3)
    nights()
    return folder


@pytest.fixture
def archive(folder: Path) -> Archive:
    return segpipe.open_store(folder / "store")


def test_tables_are_those_of_a_query(archive: Archive) -> None:
    for table in ("images", "objects"):
        for latest in (True, False):
            view = f"latest_{table}" if latest else table
            order = "image_id, run_id" + ", label" * (table == "objects")
            expected = query(archive, f"SELECT * FROM {view} ORDER BY {order}")
            found = getattr(archive, table)(latest=latest)
            assert found.arrow() == expected
            assert len(found.pandas()) == len(found.polars()) == len(expected)
            assert found.duckdb().count("image_id").fetchall() == [(len(expected),)]
    assert archive.images(latest=False).arrow().num_rows == 7 + 1 + 1 + 3


def test_columns_and_conditions_choose(archive: Archive) -> None:
    found = archive.objects(["label", "area"], "area >= $least AND touches_border", least=20)
    table = found.arrow()
    assert table.column_names == ["label", "area"]
    expected = [
        row["area"]
        for row in archive.objects().arrow().to_pylist()
        if row["area"] >= 20 and row["touches_border"]
    ]
    assert table["area"].to_pylist() == expected
    assert 0 < len(expected) < archive.objects().arrow().num_rows


@pytest.mark.parametrize(
    "where",
    [
        "true) UNION SELECT (1",
        "1; DROP TABLE images",
        "true) --",
        "area > $unknown",
        "nonsense = 1",
    ],
)
def test_what_is_no_condition_is_refused(where: str, archive: Archive) -> None:
    with pytest.raises(SpecError):
        archive.objects(where=where).arrow()


def test_a_column_with_a_quote_is_only_a_name(archive: Archive) -> None:
    with pytest.raises(SpecError, match="not found"):
        archive.images(['path", 1 AS "x']).arrow()


def test_of_a_model_there_are_its_results_alone(archive: Archive) -> None:
    own = archive.of_model("threshold")
    assert isinstance(own, Archive)
    for table in ("images", "objects"):
        for latest in (True, False):
            one, all_of_them = (
                getattr(some, table)(latest=latest).arrow() for some in (own, archive)
            )
            assert one == all_of_them.select(one.column_names)


def test_of_a_run_there_are_its_results_alone(archive: Archive) -> None:
    runs = archive.images(["run_id"], latest=False).arrow()["run_id"].unique().to_pylist()
    parts = [archive.of_run(run).images(latest=False).arrow() for run in runs]
    assert sum(part.num_rows for part in parts) == archive.images(latest=False).arrow().num_rows


def test_a_model_within_a_run_is_still_of_that_run(archive: Archive) -> None:
    rows = archive.images(["run_id"], latest=False).arrow()
    for run in rows["run_id"].unique().to_pylist():
        part = archive.of_run(run)
        own = part.of_model("threshold")
        assert own.chunk_ids == part.chunk_ids
        assert {row["run_id"] for row in own.image_rows()} == {run}


def test_masks_are_those_of_the_label_image(archive: Archive) -> None:
    for image in archive.images(where="n_objects > 0").arrow().to_pylist():
        labels = archive.label_image(image["image_id"])
        assert labels.shape == (image["height"], image["width"])
        for one in archive.objects_of(image):
            mask = archive.mask(image["path"], one["label"])
            assert mask.sum() == one["area"]
            assert np.array_equal(mask, labels == one["label"])
        assert archive.semantic(image["path"]) is None
        pixels = archive.image(image["path"])
        assert pixels.shape[:2] == labels.shape
        assert (pixels[labels > 0] > 128).all()


def test_the_whole_mask_is_given_where_objects_overlap(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = archive.images(where="n_objects > 0").arrow().to_pylist()[0]
    whole = CroppedMask(3, 4, np.ones((20, 30), bool))
    rle = encode(whole, (image["height"], image["width"]))
    box = {"bbox_y0": 3, "bbox_x0": 4, "bbox_y1": 23, "bbox_x1": 34}
    table = pa.Table.from_pylist([{"label": 1, "rle": rle, **box}])
    monkeypatch.setattr(archive, "object_table", lambda row: table)
    mask = archive.mask(image["path"], 1)
    assert mask[3:23, 4:34].all()
    assert mask.sum() == 600


def test_what_is_not_there_is_told(archive: Archive) -> None:
    (failed,) = archive.images(where="status = 'failed'").arrow().to_pylist()
    with pytest.raises(SpecError, match="has no masks: "):
        archive.label_image(failed["path"])
    with pytest.raises(InputError):
        archive.image(failed["path"])
    path = archive.images(where="n_objects > 0").arrow()["path"][0].as_py()
    with pytest.raises(SpecError, match="has no object 999"):
        archive.mask(path, 999)
    with pytest.raises(SpecError, match="no image 'nothing' in this store"):
        archive.mask("nothing", 1)


def test_stacks_are_lazy_and_hold_every_image_once(archive: Archive) -> None:
    seen = 0
    for stack in archive.stacks():
        assert stack.labels.shape[0] == len(stack.images)
        assert stack.semantic is None
        for plane, image in zip(stack.labels, stack.images, strict=True):
            own = plane[: image["height"], : image["width"]]
            assert np.array_equal(own.compute(), archive.label_image(image))
        areas = (stack.labels > 0).sum(axis=(1, 2)).compute()
        expected = archive.objects(
            ["area_visible"], "mask_array = $path", latest=False, path=stack.images[0]["mask_array"]
        ).arrow()
        assert areas.sum() == sum(expected["area_visible"].to_pylist())
        seen += len(stack.images)
    assert seen == archive.images(where="status = 'ok'", latest=False).arrow().num_rows


def test_a_missing_package_is_named(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(SpecError, match=r"polars is not installed: pip install polars; or use arr"):
        archive.images().polars()


def test_pandas_keeps_nulls_and_integers_apart(archive: Archive) -> None:
    frame = archive.images(["n_objects", "reason"]).pandas()
    assert frame.n_objects.isna().sum() == 1
    assert frame.dtypes.n_objects.pyarrow_dtype == pa.int32()
