"""A chunk from end to end with a small model: what is written, whatever the cut or the faults."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
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

from segpipe.batching import Capacity
from segpipe.errors import Reason
from segpipe.pipeline import Care, process_chunk
from segpipe.planning.memory import Budget
from segpipe.records import DecodedImage, Segmentation
from segpipe.schema import TABLES, arrow_schema
from segpipe.segmenters.base import DeviceMemoryError
from segpipe.store import Snapshot, create_store
from segpipe.store.commits import read_commit
from segpipe.store.digest import logical_digest
from segpipe.store.files import LocalFiles
from segpipe.store.fsck import check_store
from tests.bad_images import make_bad_inputs
from tests.generated import SPEC, ThresholdSegmenter, all_of, blobs, chunk_of, make_collection, refs


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_collection(tmp_path_factory.mktemp("images"), 30, broken=[3, 17])


def segment(
    images: Path,
    store: Path,
    size: int,
    segmenter: Any = None,
    capacity: Capacity | None = None,
) -> Snapshot:
    files = create_store(store)
    segmenter = segmenter or ThresholdSegmenter()
    for chunk in all_of(size, refs(images), segmenter.spec.spec_id):
        process_chunk(chunk, segmenter, files, "run", capacity=capacity)
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


def test_a_commit_says_where_its_time_went(images: Path, tmp_path: Path) -> None:
    files = create_store(tmp_path / "store")
    chunk = chunk_of(images)
    commit = process_chunk(chunk, ThresholdSegmenter(), files, "run")
    stages = {"survey", "decode", "preprocess", "forward", "postprocess", "measure", "write"}
    stored = read_commit(files, chunk.chunk_id).seconds
    for seconds in (stored, commit.seconds):
        assert {"total", *stages, *(f"{stage}_cores" for stage in stages)} <= seconds.keys()
        assert {"wait_for_images", "wait_for_room"} <= seconds.keys()
    assert "commit" not in stored  # it is not over yet
    assert "commit" in commit.seconds


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


@pytest.mark.parametrize("room", [90_000, 200_000, 500_000, 2_000_000])
def test_the_memory_there_is_changes_nothing(
    images: Path, snapshot: Snapshot, tmp_path: Path, room: int
) -> None:
    """From one image at a time, through short queues and small batches, to what is usual."""
    capacity = Capacity(Budget(int(room / 0.9) + 1, taken=0))
    found = segment(images, tmp_path / "store", 30, capacity=capacity)
    assert logical_digest(found) == logical_digest(snapshot)


def test_an_image_that_does_not_fit_is_refused_before_it_is_read(
    images: Path, tmp_path: Path
) -> None:
    """Or its pixels would be found to be damaged."""
    archive = shutil.copytree(images, tmp_path / "images")
    large = archive / "0" / "large.png"
    Image.fromarray(np.zeros((3000, 4000), np.uint8)).save(large)
    data = large.read_bytes()
    large.write_bytes(data[:200] + b"\xff" * 100 + data[300:])
    capacity = Capacity(Budget(1_000_000_000, taken=700_000_000))
    rows = {r["path"]: r for r in segment(archive, tmp_path / "s", 64, None, capacity).image_rows()}
    refused = rows.pop("0/large.png")
    assert refused["reason"] == "too_large"
    assert refused["detail"] == (
        "needs about 1.17 GB of memory; a worker may use 1.00 GB (memory_gb)"
    )
    assert (refused["height"], refused["width"]) == (3000, 4000)
    assert sum(row["status"] == "ok" for row in rows.values()) == 28
    more = Capacity(Budget(1_300_000_000, taken=700_000_000))
    rows = {r["path"]: r for r in segment(archive, tmp_path / "t", 64, None, more).image_rows()}
    assert rows["0/large.png"]["reason"] == "corrupt"


class Small(ThresholdSegmenter):
    """Has a device with memory for so many bytes, and tells what was tried on it."""

    def __init__(self, device_bytes: int) -> None:
        super().__init__(SPEC.model_copy(update={"batch_images": 8}))
        self.device_bytes = device_bytes
        self.tried: list[tuple[tuple[int, ...], int]] = []

    def forward(self, batch: Sequence[np.ndarray]) -> list[np.ndarray]:
        self.tried.append((batch[0].shape, len(batch)))
        size = sum(plane.nbytes for plane in batch)
        if size > self.device_bytes:
            raise DeviceMemoryError(f"{size} bytes; the device has {self.device_bytes}")
        return super().forward(batch)


def test_the_device_is_asked_for_too_much_once(
    images: Path, snapshot: Snapshot, tmp_path: Path
) -> None:
    """What it refused is remembered for the shape, from chunk to chunk, and recorded.

    It is never asked for more than twice of what it was seen to take.
    """
    small = Small(3 * 64 * 48)
    found = segment(images, tmp_path / "store", 15, small, Capacity())
    sizes = {shape: [size for s, size in small.tried if s == shape] for shape, _ in small.tried}
    assert sizes.keys() == {(48, 64), (64, 48)}
    for tried in sizes.values():
        refused = [size for size in tried if size > 3]
        assert len(refused) == 1
        assert max(tried[tried.index(refused[0]) + 1 :]) == refused[0] // 2
        assert all(size <= 2 * max(tried[:index]) for index, size in enumerate(tried) if index)
        assert tried[0] == 1
    commits = [read_commit(found.files, chunk) for chunk in found.chunk_ids]
    last = {shape: next(s for s in tried if s > 3) // 2 for shape, tried in sizes.items()}
    recorded = [dict(commit.ceilings) for commit in commits]
    assert {f"{h}x{w}": size for (h, w), size in last.items()} in recorded
    assert {row["status"] for row in found.image_rows()} == {"ok", "failed"}
    assert sum(row["status"] == "ok" for row in found.image_rows()) == 28


def test_a_device_without_room_for_one_image_costs_those_images(
    images: Path, tmp_path: Path
) -> None:
    archive = shutil.copytree(images, tmp_path / "images")
    for name in ("a.png", "b.png"):
        Image.fromarray(blobs(5, (100, 100))).save(archive / name)
    found = segment(archive, tmp_path / "store", 64, Small(64 * 48))
    rows = list(found.image_rows())
    refused = {row["path"]: row["reason"] for row in rows if row["height"] == 100}
    assert refused == {"a.png": "device_out_of_memory", "b.png": "device_out_of_memory"}
    assert sum(row["status"] == "ok" for row in rows) == 28


REAL_LIMIT = """
import json, os, resource, sys
import numpy as np
import torch
from PIL import Image
from segpipe.batching import Capacity
from segpipe.pipeline import process_chunk
from segpipe.readers import list_collection
from segpipe.records import Chunk, DecodedImage, Header
from segpipe.segmenters.base import DeviceMemoryError
from segpipe.segmenters.build import build
from segpipe.segmenters.catalog import resolve
from segpipe.spec import RunSpec
from segpipe.store import Snapshot, create_store

folder = sys.argv[1]
rng = np.random.default_rng(0)
many = [(512, 512)] * 15
chunks = {"warm": [(64, 64)], "first": [*many, (1536, 1536)], "second": many}
for name, shapes in chunks.items():
    os.makedirs(f"{folder}/{name}")
    for index, shape in enumerate(shapes):
        Image.fromarray(rng.integers(0, 256, shape, np.uint8)).save(f"{folder}/{name}/{index}.png")

def image_of(side):
    pixels = rng.integers(0, 256, (side, side, 1), np.uint8)
    return DecodedImage(pixels, Header(side, side, 1, "uint8", "png", ""), "")

run = RunSpec(source="-", store="-", model="unet-nuclei", precision="bf16", batch_images=8,
              options={"object_diameter": 0})
resolved = resolve(run)
segmenter = build(resolved.spec, resolved.weights_path, 1)
forward, tried = segmenter.forward, []
segmenter.forward = lambda batch: (tried.append(len(batch)), forward(batch))[1]
files = create_store(f"{folder}/store")
capacity = Capacity()

for name in chunks:
    tried.clear()
    chunk = Chunk(resolved.spec.spec_id, tuple(list_collection(f"{folder}/{name}")))
    commit = process_chunk(chunk, segmenter, files, "run", capacity=capacity)
    rows = [row for row in Snapshot(files).image_rows() if row["chunk_id"] == chunk.chunk_id]
    outcomes = [[row["height"], row["reason"] or row["status"], row["detail"]] for row in rows]
    print(json.dumps([outcomes, list(tried), dict(commit.ceilings)]), flush=True)
    if name == "warm":
        # How much eight images take depends on the processor: the first room that is too small.
        one = segmenter.prepare(image_of(512))
        for room in range(500, 0, -100):
            with open("/proc/self/statm") as sizes:
                mapped = int(sizes.read().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (mapped + (room << 20), resource.RLIM_INFINITY))
            try:
                forward([one] * 8)
            except DeviceMemoryError:
                break
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux's /proc")
def test_a_network_without_enough_memory_takes_smaller_batches_and_lives(tmp_path: Path) -> None:
    """A real U-Net, and a real limit of the address space, within which eight images do not fit."""
    command = [sys.executable, "-c", REAL_LIMIT, str(tmp_path)]
    # What is freed is free again, and no address space is set aside for threads.
    allocator = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": "65536"}
    environment = {**os.environ, **allocator, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    _, first, second = map(json.loads, done.stdout.splitlines())
    outcomes, tried, ceilings = first
    large = [[reason, detail] for height, reason, detail in outcomes if height == 1536]
    assert [reason for reason, _ in large] == ["device_out_of_memory"]
    assert "does not fit" in large[0][1]
    assert [reason for height, reason, _ in outcomes if height == 512] == ["ok"] * 15
    assert sum(size > ceilings["512x512"] for size in tried) == 1
    outcomes, tried, _ = second
    assert [reason for _, reason, _ in outcomes] == ["ok"] * 15
    assert max(tried) == ceilings["512x512"]


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
