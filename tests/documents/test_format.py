"""docs/format.md is enough: a program that knows it alone reads a store, and finds damage."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from segpipe.flows.segment import work

from segpipe.execution import planned
from segpipe.masks.rle import decode
from segpipe.pipeline import process_chunk
from segpipe.records import Chunk, CroppedMask, DecodedImage, Segmentation
from segpipe.schema import TABLES
from segpipe.spec import RunSpec
from segpipe.store import create_store, open_store
from segpipe.store.compaction import compact
from segpipe.store.fsck import check_store
from segpipe.store.layout import FORMAT_VERSION
from tests.conftest import REPOSITORY
from tests.documents.format_reader import (
    StoreByThePage,
    canonical,
    columns_of,
    digest,
    section_of,
    sha256,
)
from tests.generated import SPEC, ThresholdSegmenter, make_collection, refs
from tests.large_rows import scene, twins

PAGE = (REPOSITORY / "docs" / "format.md").read_text("utf-8")


class Overlapping(ThresholdSegmenter):
    """The first object of an image covers its whole box, hidden by others."""

    def finish(self, raw: np.ndarray, image: DecodedImage) -> Segmentation:
        found = super().finish(raw, image)
        if not found.n_objects:
            return found
        where = np.argwhere(found.label_image == 1)
        (y0, x0), (y1, x1) = where.min(axis=0), where.max(axis=0)
        mask = np.ones((y1 + 1 - y0, x1 + 1 - x0), bool)
        own = {1: CroppedMask(int(y0), int(x0), mask)}
        return dataclasses.replace(found, own_masks=own)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run by the program itself, then a compaction, then chunks of another spec beside it."""
    folder = tmp_path_factory.mktemp("format")
    photos = make_collection(folder / "photos", 9, broken=[4])
    root = folder / "results"
    asked = RunSpec(source=str(photos), store=str(root), model="classical", chunk_images=4)
    with planned(asked) as (run,), run.staffed():
        work(run, lambda progress: None)
    files = create_store(root)
    compact(files)
    images = refs(photos)
    process_chunk(Chunk(SPEC.spec_id, images[:5]), Overlapping(), files, "20991231T000000000Z-abc")
    process_chunk(Chunk(SPEC.spec_id, images[5:], 1), ThresholdSegmenter(), files, "run-2")
    return root


def test_a_store_is_read_by_the_page_alone(store: Path) -> None:
    read, snapshot = StoreByThePage(store, PAGE), open_store(store)
    assert list(read.problems()) == []
    rows = list(snapshot.image_rows())
    assert len(rows) == 9
    assert read.newest() == {row["image_id"]: row for row in rows}
    for row in rows:
        if row["status"] == "ok":
            labels = read.label_image(row)
            np.testing.assert_array_equal(labels, snapshot.label_image(row))
    objects = read.table("objects")
    assert len(objects) == len(snapshot.dataset("objects").to_table())
    assert objects["rle"].null_count < len(objects), "masks of objects that overlap"


def test_masks_of_a_large_image_are_read_by_the_page_alone(tmp_path: Path) -> None:
    one = scene(12, (1100, 700), semantic=True)
    pair = twins(tmp_path, one)
    read = StoreByThePage(tmp_path / "large", PAGE)
    assert list(read.problems()) == []
    (row,) = read.newest().values()
    assert row["mask_index"] is None
    np.testing.assert_array_equal(read.label_image(row), one.segmentation.label_image)
    classes = read.label_image(row, "semantic_array")
    np.testing.assert_array_equal(classes, one.segmentation.semantic)
    levels = pair.snapshots[1].levels(row)
    assert max(levels[-1]) <= 256 < max(levels[-2])
    for level in range(len(levels)):
        side, (height, width) = 2**level, (row["height"], row["width"])
        found = read.level(row, level)
        for y, x in np.random.default_rng(level).integers(0, found.shape, (200, 2)).tolist():
            place = min(side * y + side // 2, height - 1), min(side * x + side // 2, width - 1)
            assert found[y, x] == one.segmentation.label_image[place]


def test_masks_of_objects_are_those_of_the_page(store: Path) -> None:
    read, snapshot = StoreByThePage(store, PAGE), open_store(store)
    compared = 0
    for row in snapshot.image_rows():
        for each in snapshot.objects_of(row) if row["status"] == "ok" else ():
            if each["rle"] is not None:
                mask = decode(each["rle"], (row["height"], row["width"]))
                np.testing.assert_array_equal(read.mask(row, each, np.empty(0)), mask)
                compared += 1
    assert compared


def test_a_store_of_the_first_format_is_read_too(tmp_path: Path) -> None:
    shutil.unpack_archive(REPOSITORY / "tests" / "stores" / "format-1.zip", tmp_path)
    (marker,) = tmp_path.rglob("segpipe.json")
    read = StoreByThePage(marker.parent, PAGE)
    assert list(read.problems()) == []
    assert set(read.newest()) == {row["image_id"] for row in open_store(marker.parent).image_rows()}


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("pattern", "damage"),
    [
        ("masks.zarr/*/label_image/c/0/0/0", flip),
        ("commits/*.json", flip),
        ("objects/*.parquet", flip),
        ("masks.zarr/*/label_image/zarr.json", Path.unlink),
        ("commits/*.json", Path.unlink),
        ("runs/*/record.json", flip),
    ],
)
def test_what_is_damaged_is_found_by_the_page_and_by_fsck(
    store: Path, tmp_path: Path, pattern: str, damage: Callable[[Path], None]
) -> None:
    copied = tmp_path / "store"
    shutil.copytree(store, copied)
    damage(min(copied.glob(pattern)))
    found: list[str] = []
    try:
        found += StoreByThePage(copied, PAGE).problems()
    except (ValueError, AssertionError, pa.ArrowInvalid) as error:
        found.append(str(error))
    assert found
    assert list(check_store(create_store(copied)))


def test_a_run_that_is_being_forgotten_is_hidden(store: Path, tmp_path: Path) -> None:
    copied = tmp_path / "store"
    shutil.copytree(store, copied)
    chunks = pq.read_table(next(copied.glob("runs/*/chunks.parquet")))["chunk_id"].to_pylist()
    note = {"chunks": dict.fromkeys(chunks, "attempt")}
    (copied / "forgetting").mkdir()
    (copied / "forgetting" / "run.json").write_text(json.dumps(note))
    read = StoreByThePage(copied, PAGE)
    assert len(chunks) == 3
    assert len(read.chunks) == 2
    assert set(read.table("images")["chunk_id"].to_pylist()) == set(read.chunks)


def test_the_page_has_the_version_and_the_columns_of_the_program() -> None:
    assert f"# The store format, version {FORMAT_VERSION}\n" in PAGE
    for table, columns in TABLES.items():
        section = section_of(PAGE, table)
        told = re.findall(r"^\| `(\w+)`.*? \| .*? \| (.*?) \| (.*?) \|$", section, re.MULTILINE)
        assert told == [(c.name, c.unit, c.meaning) for c in columns]
        kinds = {name: kind for name, (kind, _) in columns_of(PAGE, table).items()}
        assert kinds == {column.name: column.type for column in columns}


def test_the_example_of_the_page() -> None:
    (line,) = re.findall(r"^(\[\"chunk\".*\])$", PAGE, re.MULTILINE)
    parts = json.loads(line)
    assert canonical(parts) == line
    images = [sha256(version[0].encode())[:24] for version in parts[2]]
    told = re.findall(r"^(?:chunk|image)_id   (\w+)$", PAGE, re.MULTILINE)
    assert told == [digest(*parts)[:32], *images]
