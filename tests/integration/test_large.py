"""Images over the tile budget: looked at part by part, they are what they are when seen whole."""

from __future__ import annotations

import csv
import re
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from segpipe.batching import Capacity
from segpipe.large.cut import halo_for
from segpipe.large.work import look_at
from segpipe.masks.paint import from_label_image, unpaint
from segpipe.measure.matching import match
from segpipe.measure.properties import measure_objects
from segpipe.pipeline import Care, Unfinished, begin_chunk, process_chunk
from segpipe.planning.memory import Budget
from segpipe.records import DecodedImage, Header, Segmentation
from segpipe.segmenters.base import Footprint
from segpipe.segmenters.build import build
from segpipe.segmenters.catalog import resolve_model
from segpipe.spec import Tiles
from segpipe.store import Snapshot, create_store
from segpipe.store.fsck import check_store
from tests.parts import HALO, SIDE, Parts, chunk_in, keep, scene


def decoded(pixels: np.ndarray) -> DecodedImage:
    height, width, channels = pixels.shape
    return DecodedImage(pixels, Header(height, width, channels, pixels.dtype.name, "png", ""), "")


class Result:
    """What a store says of the only image of a chunk."""

    def __init__(self, folder: Path) -> None:
        self.snapshot = Snapshot(create_store(folder / "store"))
        (self.row,) = self.snapshot.image_rows()
        self.objects = self.snapshot.objects_of(self.row)
        if self.row["status"] == "ok":
            self.labels = self.snapshot.label_image(self.row)
            self.semantic = self.snapshot.semantic(self.row)
        assert not list(check_store(self.snapshot.files))


def segment(folder: Path, segmenter: Parts, pixels: np.ndarray) -> Result:
    keep(folder, pixels)
    files = create_store(folder / "store")
    process_chunk(chunk_in(folder, segmenter), segmenter, files, "run")
    assert not list(files.names("units"))
    return Result(folder)


def whole(segmenter: Parts, pixels: np.ndarray) -> Segmentation:
    image = decoded(pixels)
    (raw,) = segmenter.forward([segmenter.prepare(image)])
    return segmenter.finish(raw, image)


def parts_of(labels: np.ndarray) -> set[tuple]:
    count = int(labels.max(initial=0))
    nothing = np.zeros(count, np.float32), np.ones(count, np.int32)
    parts = unpaint(Segmentation(labels.astype(np.uint32), *nothing)).masks
    return {(one.y0, one.x0, one.mask.shape, one.mask.tobytes()) for one in parts}


def assert_measured(result: Result, pixels: np.ndarray) -> None:
    """Every object is measured as it would be in an image that is seen whole."""
    count = result.row["n_objects"]
    assert [row["label"] for row in result.objects] == list(range(1, count + 1))
    labels = result.labels.astype(np.uint32)
    shown = Segmentation(labels, np.zeros(count, np.float32), np.ones(count, np.int32))
    for name, values in measure_objects(shown, pixels).items():
        assert [row[name] for row in result.objects] == list(values), name


@given(
    st.integers(0, 2**32 - 1), st.tuples(st.integers(1, 400), st.integers(129, 400)),
    st.integers(1, HALO - 1), st.integers(1, 4),
)  # fmt: skip
@settings(max_examples=25)
def test_objects_of_parts_are_those_of_the_whole(
    seed: int, shape: tuple[int, int], largest: int, most: int
) -> None:
    pixels = scene(seed, shape, largest)
    segmenter = Parts(most=most)
    with tempfile.TemporaryDirectory() as folder:
        result = segment(Path(folder), segmenter, pixels)
        assert parts_of(result.labels) == parts_of(whole(Parts(), pixels).label_image)
        if shape[0] * shape[1] > SIDE * SIDE:
            assert result.row["mask_index"] is None
            assert_measured(result, pixels)
            assert len({(view.low, view.high) for view in segmenter.views}) == 1


@given(st.integers(0, 2**32 - 1), st.tuples(st.integers(129, 400), st.integers(129, 400)))
@settings(max_examples=15)
def test_classes_of_parts_are_those_of_the_whole(seed: int, shape: tuple[int, int]) -> None:
    """Regions may be of any size: they are connected after the parts were put together."""
    pixels = scene(seed, shape, 300)
    pixels[shape[0] // 2 :, : shape[1] // 2] //= 2  # another class, which touches
    with tempfile.TemporaryDirectory() as folder:
        result = segment(Path(folder), Parts(semantic=True), pixels)
        wanted = whole(Parts(semantic=True), pixels)
        np.testing.assert_array_equal(result.semantic, wanted.semantic)
        np.testing.assert_array_equal(result.labels, wanted.label_image)
        assert [row["class_id"] for row in result.objects] == wanted.class_ids.tolist()
        np.testing.assert_allclose([row["score"] for row in result.objects], wanted.scores)
        assert_measured(result, pixels)


def test_an_image_within_the_budget_is_seen_whole(tmp_path: Path) -> None:
    pixels = scene(0, (SIDE, SIDE), 40)
    segmenter = Parts()
    result = segment(tmp_path, segmenter, pixels)
    assert len(segmenter.views) == 1
    assert result.row["mask_index"] == 0


def test_parts_are_seen_in_one_magnification(tmp_path: Path) -> None:
    pixels = np.zeros((300, 300, 1), np.uint8)
    pixels[::7, ::7] = 255  # objects of one pixel: the larger is the better
    segmenter = Parts(tiles=Tiles(side=192, halo=32, max_image_pixels=1 << 31))
    assert segment(tmp_path, segmenter, pixels).row["n_objects"] == 43 * 43
    looks = [view.magnification for view in segmenter.views]
    assert looks == [1.0] * 4 + [2.0] * 100  # a look at some parts, which chooses


@pytest.mark.parametrize("length", [60, 200, 290])
def test_an_object_larger_than_the_halo_is_whole_or_refused(tmp_path: Path, length: int) -> None:
    pixels = np.zeros((300, 300, 1), np.uint8)
    pixels[150:158, 5 : 5 + length] = 255
    result = segment(tmp_path, Parts(), pixels)
    if result.row["status"] == "failed":
        assert "tiles.halo" in result.row["detail"]
    else:
        assert parts_of(result.labels) == parts_of(whole(Parts(), pixels).label_image)


def test_an_object_that_no_part_continues_is_refused_with_both_numbers(tmp_path: Path) -> None:
    class Blind(Parts):
        """Sees nothing in parts that begin right of the first one."""

        def finish(self, raw: np.ndarray, image: DecodedImage) -> Segmentation:
            return super().finish(raw if raw[0, 0] < 0.25 else np.zeros_like(raw), image)

    pixels = np.zeros((SIDE + 1, 300, 1), np.uint8)
    pixels[0, 64:] = 90
    pixels[0, 299] = 255
    pixels[40:60, 30:250] = 255
    row = segment(tmp_path, Blind(), pixels).row
    assert row["reason"] == "too_large"
    assert "not seen whole" in row["detail"]
    assert "the halo is 32 pixels" in row["detail"]


class Forward(Parts):
    """Sees no object of which it does not see the beginning."""

    def finish(self, raw: np.ndarray, image: DecodedImage) -> Segmentation:
        found = super().finish(raw, image)
        begun = np.setdiff1d(found.label_image, found.label_image[:, 0])
        return from_label_image(np.where(np.isin(found.label_image, begun), found.label_image, 0))


@pytest.mark.parametrize("halo", [None, 32])
def test_halos_are_widened_until_all_is_seen_whole(tmp_path: Path, halo: int | None) -> None:
    """The sample shows small objects alone; one is larger, and lies across a seam."""
    pixels = np.zeros((700, 700, 1), np.uint8)
    for y, x in np.ndindex(17, 17):
        pixels[40 * y + 5 : 40 * y + 9, 40 * x + 5 : 40 * x + 9] = 255
    pixels[100:110, 330:490] = 255
    tiles = Tiles(side=384, halo=halo, max_image_pixels=1 << 31)
    result = segment(tmp_path, Forward(tiles=tiles), pixels)
    if halo:
        assert "the halo is 32 pixels (tiles.halo)" in result.row["detail"]
    else:
        assert parts_of(result.labels) == parts_of(whole(Parts(), pixels).label_image)


@given(st.lists(st.tuples(st.integers(1, 200), st.integers(1, 200)), max_size=9))
def test_a_halo_exceeds_the_objects_of_the_sample_where_there_is_room(
    sizes: list[tuple[int, int]],
) -> None:
    boxes = np.array([(3, 4, 3 + h, 4 + w) for h, w in sizes], np.int64).reshape(-1, 4)
    halo = halo_for(boxes, 512)
    assert halo % 32 == 0
    assert 32 <= halo <= 512 // 3
    assert halo > max((max(size) for size in sizes), default=0) or halo == 160


@pytest.fixture(scope="module")
def mosaic(shared_data: Path) -> np.ndarray:
    """(512, 512, 1): real fields of nuclei of one size, side by side."""
    with (shared_data / "nuclei" / "index.csv").open() as file:
        rows = [
            row["image_id"] for row in csv.DictReader(file)
            if (row["kind"], row["width"], row["height"]) == ("fluorescence", "256", "256")
            and row["split"] != "train"
        ]  # fmt: skip
    fields = []
    for name in rows[:4]:
        (path,) = (shared_data / "nuclei" / "images").glob(f"{name}.*")
        fields.append(np.asarray(Image.open(path).convert("L")))
    return np.concatenate([np.concatenate(fields[i : i + 2], 1) for i in (0, 2)])[..., None]


def test_real_nuclei_over_seams_are_those_of_the_whole(mosaic: np.ndarray, tmp_path: Path) -> None:
    def found(**asked: object) -> Result:
        model = resolve_model("unet-nuclei", "a test", precision="fp32", **asked)
        folder = tmp_path / str(len(asked))
        folder.mkdir()
        return segment(folder, build(model.spec, model.weights_path), mosaic)  # type: ignore[arg-type]

    seen_whole = found()
    tiled = found(limits={"max_pixels": 1}, tiles={"side": 288, "halo": 64})
    overlaps = match(seen_whole.labels.astype(np.uint32), tiled.labels)
    same = int((overlaps.iou > 0.5).sum())
    counts = seen_whole.row["n_objects"], tiled.row["n_objects"]
    assert counts[0] > 60
    assert same / (sum(counts) - same) > 0.95
    # Nothing is there twice: neighbours may share pixels of their borders, and no more.
    assert all(row["area_visible"] > 0.8 * row["area"] for row in tiled.objects)


def test_what_cannot_look_at_parts_is_not_asked_to(tmp_path: Path) -> None:
    assert resolve_model("classical", "a test").spec.tiles is None
    tiles = resolve_model("unet-nuclei", "a test", tiles={"halo": 256}).spec.tiles
    assert tiles == Tiles(side=2240, halo=256, max_image_pixels=1 << 31)
    assert resolve_model("unet-nuclei", "a test").spec.decoding.max_pixels == 1 << 31
    row = segment(tmp_path, Parts(tiles=None), scene(3, (300, 290), 20)).row
    assert row["reason"] == "too_large"


def test_a_large_image_is_an_ordinary_member_of_its_chunk(tmp_path: Path) -> None:
    for name, shape in (("large", (300, 290)), ("small", (100, 90)), ("wide", (90, 1000))):
        keep(tmp_path, scene(3, shape, 20), f"{name}.tif")
    (tmp_path / "images/broken.tif").write_bytes(b"II*\0")
    segmenter, files = Parts(), create_store(tmp_path / "store")
    commit = process_chunk(chunk_in(tmp_path, segmenter), segmenter, files, "run")
    assert (commit.n_images, commit.n_ok) == (4, 3)
    assert commit.seconds["forward"] > 0
    snapshot = Snapshot(files)
    _, large, small, wide = snapshot.image_rows()
    for row, shape in ((large, (300, 290)), (small, (100, 90)), (wide, (90, 1000))):
        wanted = whole(Parts(), scene(3, shape, 20))
        np.testing.assert_array_equal(snapshot.label_image(row) > 0, wanted.label_image > 0)
        assert row["n_objects"] == wanted.n_objects == len(snapshot.objects_of(row))
        assert row["sha256"]
        assert row["decode_seconds"] > 0
    assert [snapshot.levels(row) for row in (small, wide)] == [
        [(100, 90)], [(90, 1000), (45, 500), (23, 250)]
    ]  # fmt: skip
    assert not list(check_store(files))


def test_what_a_part_needs_is_budgeted_and_does_not_grow_with_the_image(tmp_path: Path) -> None:
    class Hungry(Parts):
        def part_footprint(self, header: Header, magnification: float) -> Footprint:
            return Footprint(0, 0, 50_000 * header.height * header.width, 0)

    segmenter, files = Hungry(), create_store(tmp_path / "store")
    keep(tmp_path, scene(6, (3000, 600), 20), "long.tif")
    keep(tmp_path, scene(6, (300, 300), 20))
    chunk = chunk_in(tmp_path, segmenter)
    small = Capacity(Budget(limit=900_000_000, taken=0))
    process_chunk(chunk, segmenter, files, "run-1", capacity=small)
    rows = list(Snapshot(files).image_rows())
    assert {row["reason"] for row in rows} == {"too_large"}
    needed = rows[0]["detail"]
    assert all(row["detail"] == needed for row in rows)
    assert re.search(r"needs about 1\.\d\d GB .* may use 0\.90 GB \(memory_gb\)", needed)
    enough = Capacity(Budget(limit=2_000_000_000, taken=0))
    again = replace(chunk, generation=1)
    assert process_chunk(again, segmenter, files, "run-2", capacity=enough).n_ok == 2


def test_a_part_that_cannot_be_read_fails_its_image_and_no_other(tmp_path: Path) -> None:
    for name in ("bad", "good"):
        keep(tmp_path, scene(4, (400, 400), 20), f"{name}.tif")
    path = tmp_path / "images/bad.tif"
    with tifffile.TiffFile(path) as file:
        offset = file.pages[0].dataoffsets[30]
    data = bytearray(path.read_bytes())
    data[offset : offset + 8] = b"\xff" * 8
    path.write_bytes(data)
    segmenter, files = Parts(), create_store(tmp_path / "store")
    process_chunk(chunk_in(tmp_path, segmenter), segmenter, files, "run")
    bad, good = Snapshot(files).image_rows()
    assert (bad["reason"], good["status"]) == ("corrupt", "ok")
    assert not list(check_store(files))
    assert not list(files.names("units"))


def test_what_was_looked_at_is_not_looked_at_again(tmp_path: Path) -> None:
    """Also in another chunk: the units of an image are its own."""
    keep(tmp_path, scene(5, (400, 400), 20))
    first, files = Parts(), create_store(tmp_path / "store")
    chunk = chunk_in(tmp_path, first)
    begun = begin_chunk(chunk, first, files, "run", Care(), None, Capacity())
    assert isinstance(begun, Unfinished)
    assert len(begun.parts) == 7
    looked = len(first.views)
    for part in begun.parts[:3]:
        look_at(part, chunk, first, files, Capacity())
    assert len(first.views) > looked

    keep(tmp_path, scene(5, (20, 20), 5), "more.tif")
    again, chunk = Parts(), chunk_in(tmp_path, first)
    begun = begin_chunk(chunk, again, files, "run", Care(), None, Capacity())
    assert isinstance(begun, Unfinished)
    assert [part.row for part in begun.parts] == [3, 4, 5, 6]
    assert not again.views
    process_chunk(chunk, again, files, "run")
    _, row = sorted(Snapshot(files).image_rows(), key=lambda row: row["path"] == "one.tif")
    assert row["n_objects"] == whole(Parts(), scene(5, (400, 400), 20)).n_objects
