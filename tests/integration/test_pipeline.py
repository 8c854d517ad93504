"""A chunk from end to end with a small model: what is written, whatever the cut or the faults."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow.parquet as pq
import pytest
import zarr
from PIL import Image

from segpipe.errors import Reason
from segpipe.pipeline import Care, process_chunk
from segpipe.planning.chunks import Planner
from segpipe.records import DecodedImage, Segmentation
from segpipe.schema import TABLES, arrow_schema
from segpipe.segmenters.base import DeviceMemoryError
from segpipe.store import Snapshot, create_store
from segpipe.store.commits import read_commit
from segpipe.store.digest import logical_digest
from segpipe.store.files import LocalFiles
from segpipe.store.fsck import check_store
from tests.bad_images import make_bad_inputs
from tests.generated import SPEC, ThresholdSegmenter, blobs, chunk_of, make_collection, refs


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_collection(tmp_path_factory.mktemp("images"), 30, broken=[3, 17])


def segment(images: Path, store: Path, size: int, segmenter: Any = None) -> Snapshot:
    files = create_store(store)
    segmenter = segmenter or ThresholdSegmenter()
    for chunk in Planner(segmenter.spec.spec_id, size, set()).chunks(refs(images)):
        process_chunk(chunk, segmenter, files, "run")
    return Snapshot(files)


@pytest.fixture(scope="module")
def snapshot(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    return segment(images, tmp_path_factory.mktemp("store"), 7)


def test_every_image_is_one_row(images: Path, snapshot: Snapshot) -> None:
    rows = {row["path"]: row for row in snapshot.image_rows()}
    assert set(rows) == {ref.path for ref in refs(images)}
    failed = {path for path, row in rows.items() if row["status"] == "failed"}
    assert failed == {"1/image-003.png", "1/image-017.png"}
    assert all(rows[path]["reason"] in list(Reason) for path in failed)
    assert all(rows[path]["detail"] for path in failed)


def test_objects_are_the_labels_in_zarr(images: Path, snapshot: Snapshot) -> None:
    for row in snapshot.image_rows():
        if row["status"] != "ok":
            continue
        labels = snapshot.label_image(row)
        pixels = np.asarray(Image.open(images / row["path"]))
        assert ((labels > 0) == (pixels > 128)).all()
        objects = snapshot.objects_of(row)
        assert [o["label"] for o in objects] == list(range(1, row["n_objects"] + 1))
        for item in objects:
            mask = labels == item["label"]
            assert item["area"] == item["area_visible"] == mask.sum()
            assert item["rle"] is None
            assert item["mean_intensity"] == [pytest.approx(pixels[mask].mean(), rel=1e-6)]
            assert item["class_name"] == "blob"


@pytest.mark.parametrize("size", [1, 64])
def test_the_cut_into_chunks_changes_nothing(
    images: Path, snapshot: Snapshot, tmp_path: Path, size: int
) -> None:
    assert logical_digest(segment(images, tmp_path / "store", size)) == logical_digest(snapshot)


def test_care_changes_nothing(images: Path, snapshot: Snapshot, tmp_path: Path) -> None:
    files = create_store(tmp_path / "store")
    care = Care(label="x-", careful=True)
    process_chunk(chunk_of(images), ThresholdSegmenter(), files, "run", care)
    assert logical_digest(Snapshot(files)) == logical_digest(snapshot)


def test_every_bad_input_ends_as_one_row(tmp_path: Path) -> None:
    """Images that nobody should trust, through the whole pipeline; a broken one costs itself."""
    images = tmp_path / "images"
    images.mkdir()
    expected = make_bad_inputs(images)
    snapshot = segment(images, tmp_path / "store", 64)
    rows = {row["path"]: row for row in snapshot.image_rows()}
    assert set(rows) == {ref.path for ref in refs(images)}
    for path, row in rows.items():
        outcome = row["reason"] or row["status"]
        assert outcome in expected[path], f"{path}: {outcome}: {row['detail']}"
    assert sum(row["status"] == "ok" for row in rows.values()) > 10
    assert list(check_store(snapshot.files)) == []


def test_the_store_is_sound(snapshot: Snapshot) -> None:
    assert list(check_store(snapshot.files)) == []


def test_the_files_have_the_documented_columns(snapshot: Snapshot) -> None:
    for table, columns in TABLES.items():
        for path in snapshot.parquet_files(table):
            schema = pq.read_schema(path)
            assert schema.equals(arrow_schema(table))
            for column in columns:
                metadata = schema.field(column.name).metadata
                assert metadata[b"meaning"].decode() == column.meaning
                assert metadata[b"unit"].decode() == column.unit


def test_plain_programs_open_the_store(snapshot: Snapshot) -> None:
    root = snapshot.files.local_path("")
    glob = str(root / "objects" / "*.parquet")
    count = sum(row["n_objects"] or 0 for row in snapshot.image_rows())
    assert duckdb.sql(f"SELECT count(*) FROM '{glob}'").fetchall() == [(count,)]
    assert len(pd.read_parquet(root / "objects")) == count
    assert len(pl.read_parquet(glob)) == count
    masks = zarr.open_group(root / "masks.zarr", mode="r")
    stacks = [group["label_image"] for _, group in masks.groups()]
    assert sum(stack.shape[0] for stack in stacks) == 28
    assert {stack.dtype for stack in stacks} == {np.dtype("uint16")}


def test_no_nan_in_the_tables(snapshot: Snapshot) -> None:
    for table in TABLES:
        for column in snapshot.dataset(table).to_table().columns:
            values = column.combine_chunks()
            flat = values.flatten() if hasattr(values, "flatten") else values
            if str(flat.type) in ("float", "double"):
                assert not np.isnan(flat.drop_null().to_numpy()).any()


def test_a_crowded_image_gets_wider_labels(tmp_path: Path) -> None:
    """65,536 objects do not fit uint16: the stack is written again as uint32."""
    dots = np.zeros((520, 520), np.uint8)
    dots[::2, ::2] = 255
    (tmp_path / "images").mkdir()
    Image.fromarray(dots).save(tmp_path / "images" / "dots.png")
    snapshot = segment(tmp_path / "images", tmp_path / "store", 4)
    (row,) = snapshot.image_rows()
    labels = snapshot.label_image(row)
    assert labels.dtype == np.uint32
    assert labels.max() == row["n_objects"] == 260 * 260
    assert list(check_store(snapshot.files)) == []
    assert len(list(snapshot.files.names("masks.zarr"))) == 2


class Semantic(ThresholdSegmenter):
    """The same, with a class for every pixel."""

    def __init__(self) -> None:
        model = SPEC.model.model_copy(update={"task": "semantic"})
        super().__init__(SPEC.model_copy(update={"model": model}))

    def finish(self, raw: np.ndarray, image: DecodedImage) -> Segmentation:
        found = super().finish(raw, image)
        return replace(found, semantic=(raw > 0).astype(np.uint8))


def test_semantic_masks_stand_beside_the_labels(images: Path, tmp_path: Path) -> None:
    snapshot = segment(images, tmp_path / "store", 30, Semantic())
    for row in snapshot.image_rows():
        if row["status"] == "ok":
            semantic = snapshot.semantic(row)
            assert semantic is not None
            assert semantic.dtype == np.uint8
            assert ((snapshot.label_image(row) > 0) == semantic).all()
    assert list(check_store(snapshot.files)) == []


class Small(ThresholdSegmenter):
    """Has memory for one image at a time, and for none that is wider than high."""

    def forward(self, batch: Sequence[np.ndarray]) -> list[np.ndarray]:
        if len(batch) > 1 or batch[0].shape[1] > batch[0].shape[0]:
            raise DeviceMemoryError("the device has 1 MB")
        return super().forward(batch)


def test_a_batch_too_large_for_the_device_is_halved(images: Path, tmp_path: Path) -> None:
    rows = list(segment(images, tmp_path / "store", 30, Small()).image_rows())
    tall = [row for row in rows if row["height"] == 64]
    wide = [row for row in rows if row["height"] == 48]
    assert {row["status"] for row in tall} == {"ok"}
    assert {row["reason"] for row in wide} == {"device_out_of_memory"}


class Fragile(ThresholdSegmenter):
    """Cannot stand one of the images, at a stage of choice."""

    def __init__(self, stage: str) -> None:
        super().__init__()
        self.stage = stage

    def _check(self, stage: str, plane: np.ndarray) -> None:
        if stage == self.stage and np.array_equal(plane, blobs(6, (64, 48))):
            raise ZeroDivisionError("cannot stand this image")

    def prepare(self, image: DecodedImage) -> np.ndarray:
        self._check("prepare", image.pixels[..., 0])
        return super().prepare(image)

    def forward(self, batch: Sequence[np.ndarray]) -> list[np.ndarray]:
        for plane in batch:
            self._check("forward", plane)
        return super().forward(batch)

    def finish(self, raw: np.ndarray, image: DecodedImage) -> Segmentation:
        self._check("finish", image.pixels[..., 0])
        return super().finish(raw, image)


@pytest.mark.parametrize("stage", ["prepare", "forward", "finish"])
def test_an_image_the_model_cannot_stand_costs_only_itself(
    images: Path, tmp_path: Path, stage: str
) -> None:
    snapshot = segment(images, tmp_path / "store", 30, Fragile(stage))
    failed = [row for row in snapshot.image_rows() if row["reason"] == "segmenter_error"]
    assert [row["path"] for row in failed] == ["0/image-006.png"]
    assert failed[0]["detail"] == "ZeroDivisionError: cannot stand this image"
    assert sum(row["status"] == "ok" for row in snapshot.image_rows()) == 27
    assert list(check_store(snapshot.files)) == []


class Meddler(ThresholdSegmenter):
    """Rewrites one of the files while the chunk is processed."""

    def __init__(self, victim: Path) -> None:
        super().__init__()
        self.victim = victim

    def finish(self, raw: np.ndarray, image: DecodedImage) -> Segmentation:
        self.victim.write_bytes(b"something else")
        return super().finish(raw, image)


def test_an_input_that_changes_meanwhile_is_recorded(images: Path, tmp_path: Path) -> None:
    archive = shutil.copytree(images, tmp_path / "images")
    victim = archive / "0" / "image-000.png"
    snapshot = segment(archive, tmp_path / "store", 30, Meddler(victim))
    changed = [row["path"] for row in snapshot.image_rows() if row["input_changed"]]
    assert changed == ["0/image-000.png"]


def test_the_commit_counts_what_the_tables_hold(snapshot: Snapshot) -> None:
    commits = [read_commit(snapshot.files, chunk) for chunk in snapshot.chunk_ids]
    assert sum(commit.n_images for commit in commits) == 30
    assert sum(commit.n_ok for commit in commits) == 28
    assert sum(sum(commit.failures.values()) for commit in commits) == 2
    assert isinstance(snapshot.files, LocalFiles)
