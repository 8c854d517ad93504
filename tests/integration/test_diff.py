"""What changed between two runs: each object is told once, and the numbers are those of masks."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from skimage.measure import label

from segpipe.errors import SpecError
from segpipe.geometry import Box
from segpipe.masks.paint import paint
from segpipe.masks.rle import encode
from segpipe.progress import Progress
from segpipe.records import CroppedMask, DecodedImage, Instances, Segmentation
from segpipe.report.diff import diff_image
from segpipe.report.diff.classes import compare_classes
from segpipe.report.diff.runs import find_results, image_pairs
from segpipe.schema import arrow_schema
from segpipe.spec import ModelSpec
from segpipe.store import create_store, open_store
from tests.generated import SPEC, ThresholdSegmenter
from tests.integration.conftest import Command
from tests.nights import Nights

SHAPE = (24, 30)
IMAGE = {"height": SHAPE[0], "width": SHAPE[1], "path": "a.png", "status": "ok"}

Boxes = list[tuple[int, int, int, int, int]]


@dataclass
class OneImage:
    """A result of one image, as a snapshot gives it: rectangles that may overlap."""

    boxes: Boxes  # y0, x0, height, width, class

    def __post_init__(self) -> None:
        masks = [CroppedMask(y, x, np.ones((h, w), bool)) for y, x, h, w, _ in self.boxes]
        scores = np.linspace(1, 0.5, len(masks), dtype=np.float32)
        classes = np.array([c for *_, c in self.boxes], np.int32)
        self._painted = paint(Instances(tuple(masks), scores, classes), SHAPE)

    def label_image(self, row: Mapping[str, Any], part: Box) -> npt.NDArray[np.uint32]:
        return self._painted.label_image[part.slices]

    def object_table(self, row: Mapping[str, Any]) -> pa.Table:
        own = self._painted.own_masks
        rows = [
            {
                "label": i, "class_name": f"class {c}", "area": h * w,
                "bbox_y0": y, "bbox_x0": x, "bbox_y1": y + h, "bbox_x1": x + w,
                "rle": encode(own[i], SHAPE) if i in own else None,
            }
            for i, (y, x, h, w, c) in enumerate(self.boxes, start=1)
        ]  # fmt: skip
        named = ("label", "class_name", "area", "bbox_y0", "bbox_x0", "bbox_y1", "bbox_x1", "rle")
        return pa.Table.from_pylist(
            rows, pa.schema([arrow_schema("objects").field(name) for name in named])
        )


def iou(one: tuple[int, ...], other: tuple[int, ...]) -> float:
    masks = []
    for y, x, h, w, _ in (one, other):
        mask = np.zeros(SHAPE, bool)
        mask[y : y + h, x : x + w] = True
        masks.append(mask)
    return float((masks[0] & masks[1]).sum() / (masks[0] | masks[1]).sum())


boxes = st.lists(
    st.tuples(
        st.integers(0, 16), st.integers(0, 22), st.integers(1, 8), st.integers(1, 8),
        st.integers(1, 2),
    ),
    max_size=8,
)  # fmt: skip


@given(boxes, boxes)
def test_each_object_is_told_once_with_the_iou_of_its_whole_mask(old: Boxes, new: Boxes) -> None:
    diff = diff_image(OneImage(old), OneImage(new), IMAGE, IMAGE, 0.3, 0.8)
    for paired, alone, known in (
        ([pair[0] for pair in diff.pairs], diff.lost, old),
        ([pair[1] for pair in diff.pairs], diff.gained, new),
    ):
        assert sorted([*paired, *alone]) == list(range(1, len(known) + 1))
    for i, j, value in diff.pairs:
        assert value == pytest.approx(iou(old[i - 1], new[j - 1]))
        assert value >= 0.3
        assert (j in diff.changed) == (value < 0.8 or old[i - 1][4] != new[j - 1][4])
    # Nothing is left that could still be paired.
    assert all(iou(old[i - 1], new[j - 1]) < 0.3 for i in diff.lost for j in diff.gained)


@given(boxes)
def test_a_result_does_not_differ_from_itself(some: Boxes) -> None:
    diff = diff_image(OneImage(some), OneImage(some), IMAGE, IMAGE)
    assert diff.lost == diff.gained == ()
    assert all(value == 1 for *_, value in diff.pairs)


def test_a_class_that_only_one_model_knows_is_no_change() -> None:
    old, new = OneImage([(0, 0, 5, 5, 1)]), OneImage([(0, 0, 5, 5, 2)])
    assert diff_image(old, new, IMAGE, IMAGE).changed == (1,)
    assert diff_image(old, new, IMAGE, IMAGE, classes={"class 1"}).changed == ()


def test_another_size_is_refused() -> None:
    with pytest.raises(SpecError, match=r"a.png: \(24, 30\) pixels before, \(9, 30\) after"):
        diff_image(OneImage([]), OneImage([]), IMAGE, {**IMAGE, "height": 9})


# --- runs ---------------------------------------------------------------------------------------


def draw(path: Path, *corners: tuple[int, int], side: int = 8, shape: Any = (64, 64)) -> None:
    image = np.zeros(shape, np.uint8)
    for y, x in corners:
        image[y : y + side, x : x + side] = 200
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two nights; before the second one some images are changed."""
    folder = tmp_path_factory.mktemp("diff")
    images, store = folder / "images", folder / "store"
    nights = Nights(create_store(store), images)
    draw(images / "moved.png", (4, 4), (4, 40))
    draw(images / "larger.png", (10, 10))
    draw(images / "resized.png", (10, 10))
    draw(images / "only-before.png", (10, 10))
    draw(images / "broken.png", (10, 10))
    draw(images / "<b>.png", (4, 4), (20, 20))
    nights(partition_chunks=1)
    draw(images / "moved.png", (4, 4), (40, 40), shape=(64, 64))
    draw(images / "larger.png", (10, 10), side=10)
    draw(images / "resized.png", (10, 10), shape=(64, 70))
    (images / "broken.png").write_bytes(b"broken, and of another size")
    draw(images / "<b>.png", (4, 4))
    draw(images / "only-after.png", (10, 10))
    nights()
    return store


def test_every_image_of_either_run_is_told_once(store: Path) -> None:
    snapshot = open_store(store)
    before, after = find_results(snapshot, "latest~1"), find_results(snapshot, "latest")
    assert len(before.run_ids) == 2  # a night in parts
    found = {pair.about["path"]: pair for pair in image_pairs(snapshot, before, after, 0.5, 0.8)}
    problems = {path: pair.problem for path, pair in found.items() if pair.problem}
    assert problems == {
        "resized.png": "another size",
        "only-before.png": "only before",
        "only-after.png": "only after",
        "broken.png": "failed after",
    }
    counts = {
        path: (
            len(pair.diff.pairs),
            *map(len, (pair.diff.changed, pair.diff.lost, pair.diff.gained)),
        )
        for path, pair in found.items()
        if pair.diff
    }
    assert counts == {
        "moved.png": (1, 0, 1, 1),
        "larger.png": (1, 1, 0, 0),
        "<b>.png": (1, 0, 1, 0),
    }


def test_after_each_image_is_told_how_many_are_left(store: Path, segpipe: Command) -> None:
    snapshot = open_store(store)
    before, after = find_results(snapshot, "latest~1"), find_results(snapshot, "latest")
    heard: list[Progress] = []
    pairs = list(image_pairs(snapshot, before, after, 0.5, 0.8, heard.append))
    assert [(one.done, one.total) for one in heard] == [(k, 7) for k in range(1, 8)]
    assert len(pairs) == 7
    _, _, error = segpipe("diff", store, "latest~1", "latest")
    assert "7 of 7 images" in error
    assert "0:00:00 left" in error


def test_the_command_tells_writes_and_draws(store: Path, tmp_path: Path, segpipe: Command) -> None:
    out = tmp_path / "changes"
    code, said, _ = segpipe("diff", store, "latest~1", "latest", "--out", out, "--json")
    told = json.loads(said)
    assert code == 0
    assert told["objects"] == {
        "before": 5, "after": 4, "same": 2, "changed": 1, "lost": 2, "gained": 1
    }  # fmt: skip
    assert [one["path"] for one in told["most"]] == ["moved.png", "<b>.png", "larger.png"]
    objects = pq.read_table(out / "objects.parquet").to_pylist()
    kinds = sorted((row["path"], row["kind"]) for row in objects)
    assert kinds == [
        ("<b>.png", "lost"), ("<b>.png", "same"), ("larger.png", "changed"),
        ("moved.png", "gained"), ("moved.png", "lost"), ("moved.png", "same"),
    ]  # fmt: skip
    larger = next(row for row in objects if row["path"] == "larger.png")
    assert (larger["area_before"], larger["area_after"], larger["iou"]) == (64, 100, 0.64)
    images = pq.read_table(out / "images.parquet").to_pylist()
    assert sum(row["problem"] is None for row in images) == 3
    assert len(images) == 7
    assert len(list((out / "pictures").glob("*.png"))) == 3
    assert told["not_drawn"] == {}


def test_an_image_that_is_gone_has_no_picture_and_a_reason(
    store: Path, tmp_path: Path, segpipe: Command
) -> None:
    path = store.parent / "images" / "moved.png"
    kept = path.read_bytes()
    path.unlink()
    try:
        _, said, _ = segpipe(
            "diff", store, "latest~1", "latest", "--out", tmp_path, "--pictures", "1"
        )
    finally:
        path.write_bytes(kept)
    assert "no picture of moved.png: " in said
    assert "2 same, 1 changed, 2 lost, 1 gained: 66.67% differ" in said


@pytest.mark.parametrize(("limit", "code"), [("0.67", 0), ("0.66", 1)])
def test_a_limit_of_differences_ends_with_1(
    limit: str, code: int, store: Path, segpipe: Command
) -> None:
    ended, _, error = segpipe("diff", store, "latest~1", "latest", "--fail-above", limit)
    assert ended == code
    assert ("--fail-above allows" in error) == bool(code)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("2026", "'2026' fits 2 runs"),
        ("latest~9", "'latest~9' is no run of this store"),
        ("nobody", "nor a model with results here: threshold; nor `latest`"),
    ],
)
def test_a_name_that_is_no_run_is_answered_with_those_there_are(
    name: str, told: str, store: Path, segpipe: Command
) -> None:
    code, _, error = segpipe("diff", store, name, "latest")
    assert code == 2
    assert told in error


class ClassPerPixel(ThresholdSegmenter):
    """Pixels above 128 are of class 1, above 180 of class 2."""

    def __init__(self, *classes: str) -> None:
        model = ModelSpec(name=classes[1], kind="classical", task="semantic", classes=classes)
        super().__init__(SPEC.model_copy(update={"model": model}))

    def finish(self, raw: np.ndarray, image: DecodedImage) -> Segmentation:
        grey = image.pixels[..., 0]
        labels = label((grey > 128).astype(int) + (grey > 180), connectivity=1).astype(np.uint32)
        count = int(labels.max())
        return Segmentation(
            labels,
            np.full(count, np.nan, np.float32),
            np.array(
                [1 + (grey[labels == one] > 180).all() for one in range(1, count + 1)], np.int32
            ),
            semantic=((grey > 128).astype(np.uint8) + (grey > 180)),
        )


def test_of_classes_per_pixel_dice_is_told(tmp_path: Path, segpipe: Command) -> None:
    def paint_image(name: str, *areas: tuple[int, int, int]) -> np.ndarray:
        image = np.zeros((40, 50), np.uint8)
        for x, width, value in areas:
            image[5:15, x : x + width] = value
        (tmp_path / "images").mkdir(exist_ok=True)
        Image.fromarray(image).save(tmp_path / "images" / name)
        return image

    nights = Nights(
        create_store(tmp_path / "store"),
        tmp_path / "images",
        ClassPerPixel("background", "dim", "bright"),
    )
    old = {
        "one.png": paint_image("one.png", (0, 10, 150), (20, 10, 200)),
        "two.png": paint_image("two.png", (0, 8, 200)),
    }
    nights()
    nights.segmenter = ClassPerPixel("background", "bright", "odd")
    new = {
        "one.png": paint_image("one.png", (4, 10, 150), (20, 10, 150)),
        "two.png": paint_image("two.png", (0, 8, 200)),
    }
    nights()
    # What both know is `bright`: 2 before, 1 after.
    masks = {
        name: (old[name] > 180, (new[name] > 128) & (new[name] <= 180))
        for name in ("one.png", "two.png")
    }
    expected = {}
    for name, (a, b) in masks.items():
        expected[name] = int(a.sum()), int(b.sum()), int((a & b).sum())
    before, after, common = np.sum(list(expected.values()), axis=0).tolist()

    out = tmp_path / "out"
    _, said, _ = segpipe("diff", tmp_path / "store", "dim", "bright", "--out", out, "--json")
    told = json.loads(said)
    assert told["dice"] == 2 * common / (before + after)
    assert told["classes"] == [
        {
            "class_name": "bright", "dice": told["dice"],
            "pixels_before": before, "pixels_after": after, "pixels_common": common,
        }
    ]  # fmt: skip
    rows = pq.read_table(out / "classes.parquet").to_pylist()
    names = ("pixels_before", "pixels_after", "pixels_common")
    assert {row["path"]: tuple(row[name] for name in names) for row in rows} == expected
    images = pq.read_table(out / "images.parquet").sort_by("path").to_pylist()
    dice = {row["path"]: row["dice"] for row in images}
    assert dice == {row["path"]: row["dice"] for row in rows}
    # Of two.png only pixels differ: its objects are of a class that one of the two knows alone.
    assert [(one["path"], one["dice"]) for one in told["most"]] == list(dice.items())
    assert (list(dice), dice["two.png"], told["unlike"]) == (["one.png", "two.png"], 0, 2)
    assert [path.stem for path in (out / "pictures").iterdir()] == [told["most"][0]["image_id"]]
    _, text, _ = segpipe("diff", tmp_path / "store", "dim", "bright")
    assert f"{told['dice']:.4f}" in text
    assert "bright" in text


def test_of_objects_alone_there_is_no_dice(store: Path, tmp_path: Path, segpipe: Command) -> None:
    _, said, _ = segpipe("diff", store, "latest~1", "latest", "--out", tmp_path, "--json")
    told = json.loads(said)
    assert (told["classes"], told["dice"]) == ([], None)
    assert pq.read_table(tmp_path / "classes.parquet").num_rows == 0


@given(st.integers(0, 2**32 - 1), st.integers(1, 3000))
@settings(max_examples=20)
def test_pixels_of_a_class_are_those_with_its_name(seed: int, height: int) -> None:
    rng = np.random.default_rng(seed)
    before, after = rng.integers(0, 4, (2, height, 3), dtype=np.uint8)
    known = ["background", "a", "b", "c"], ["background", "c", "x", "b"]
    rows = compare_classes([(before, after)], (known[0], known[1]), ("b", "c"))
    for row, (one, other) in zip(rows, ((2, 3), (3, 1)), strict=True):
        masks = before == one, after == other
        assert (row.before, row.after) == tuple(int(mask.sum()) for mask in masks)
        assert row.common == int((masks[0] & masks[1]).sum())
        assert (row.dice is None) == (row.before + row.after == 0)


def test_a_models_name_is_its_newest_results(store: Path) -> None:
    found = find_results(open_store(store), "threshold")
    assert len(found.run_ids) == 3
    assert found.classes == {"background", "blob"}
