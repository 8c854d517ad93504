"""Truth from COCO's files and columns from an index: what fits, and what is refused by name."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as pycocotools_mask

from segpipe.errors import SpecError
from segpipe.masks.rle import decode, encode
from segpipe.records import CroppedMask
from segpipe.report.coco_truth import CocoTruth
from segpipe.report.objects import TrueObjects
from segpipe.report.subgroups import ImageIndex

SHAPE = 20, 30
Json = dict[str, Any]


def rectangle(y0: int, x0: int, y1: int, x1: int) -> np.ndarray:
    mask = np.zeros(SHAPE, bool)
    mask[y0:y1, x0:x1] = True
    return mask


def as_polygon(y0: int, x0: int, y1: int, x1: int) -> list[list[float]]:
    return [[x0, y0, x1, y0, x1, y1, x0, y1]]


def document(*annotations: Json) -> Json:
    return {
        "info": {"made": "by hand"},
        "images": [{"id": 7, "file_name": "a.png", "height": SHAPE[0], "width": SHAPE[1]}],
        "categories": [{"id": 3, "name": "cell"}, {"id": 9, "name": "dust"}],
        "annotations": list(annotations),
    }


def annotation(segmentation: Any, **more: Any) -> Json:
    return {"id": 1, "image_id": 7, "category_id": 3, "segmentation": segmentation} | more


def write(folder: Path, content: Json | bytes, name: str = "truth.json") -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return path


def read(path: Path, *classes: str) -> TrueObjects:
    truth = CocoTruth([path])
    (entry,) = truth.entries.values()
    return truth.objects(entry, SHAPE, {name: i for i, name in enumerate(classes)})


def test_polygons_and_run_lengths_are_the_same_object(tmp_path: Path) -> None:
    mask = rectangle(2, 3, 8, 12)
    runs = np.flatnonzero(np.diff(mask.T.ravel(), prepend=0, append=0)).tolist()
    counts = np.diff([0, *runs, mask.size]).tolist()
    coded = encode(CroppedMask(0, 0, mask), SHAPE)
    for segmentation in (
        as_polygon(2, 3, 8, 12),
        {"size": SHAPE, "counts": counts},
        {"size": SHAPE, "counts": coded},
    ):
        truth = read(write(tmp_path, document(annotation(segmentation))), "cell")
        np.testing.assert_array_equal(truth.labels, mask)
        (one,) = truth.objects
        assert (one.box, one.area, one.crowd) == ((3, 2, 9, 6), 54, False)


def test_overlaps_crowds_and_classes(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        document(
            annotation(as_polygon(5, 5, 8, 8)),
            annotation(as_polygon(0, 0, 10, 10), area=77.5, bbox=[0, 0, 10, 10.5]),
            annotation(as_polygon(5, 5, 8, 8), category_id=9),
            annotation(as_polygon(12, 0, 20, 30), iscrowd=1),
            annotation(as_polygon(12, 0, 20, 30), category_id=9, iscrowd=1),
        ),
    )
    both = read(path, "cell", "dust")
    np.testing.assert_array_equal(both.labels > 0, rectangle(0, 0, 10, 10))
    assert both.labels[6, 6] != both.labels[0, 0] > 0, "the smaller one is on top"
    assert both.hidden == 1, "of two equal ones, one covers the other"
    assert set(both.crowds) == {0, 1}
    np.testing.assert_array_equal(both.crowds[0], rectangle(12, 0, 20, 30))
    assert [one.crowd for one in both.objects] == [False] * 3 + [True] * 2
    assert (77.5, (0, 0, 10, 10.5)) in [(one.area, one.box) for one in both.objects]
    for label, one in enumerate(both.objects[:3], start=1):
        assert both.class_of[label] == one.class_index

    cells = read(path, "cell")
    assert cells.other_classes == Counter(dust=2)
    assert cells.hidden == 0
    assert len(cells.objects) == 3


def test_an_object_without_a_pixel_is_hidden_not_lost(tmp_path: Path) -> None:
    truth = read(write(tmp_path, document(annotation([], area=1.0))), "cell")
    assert (truth.hidden, len(truth.objects)) == (1, 1)


BROKEN: dict[str, tuple[Callable[[Json], Any], str]] = {
    "not json": (lambda d: b"{", "no COCO annotations"),
    "a list": (lambda d: b"[]", "no COCO annotations"),
    "deep": (lambda d: b"[" * 100_000, "no COCO annotations"),
    "no images": (lambda d: d.pop("images") and None, "images: Field required"),
    "an id twice": (lambda d: d["images"].append(d["images"][0]), "image id '7' is there 2"),
    "a name twice": (lambda d: d["categories"][1].update(name="cell"), "category name 'cell'"),
    "no such image": (lambda d: d["annotations"][0].update(image_id=8), "no image 8"),
    "no such class": (lambda d: d["annotations"][0].update(category_id=8), "no category 8"),
    "other size": (lambda d: d["images"][0].update(height=21), "21 x 30 .* 20 x 30"),
    "huge": (lambda d: d["images"][0].update(height=10**9), "less than or equal"),
    "nan": (
        lambda d: d["annotations"][0].update(segmentation=[[float("nan")] * 6]),
        "finite number",
    ),
    "far point": (
        lambda d: d["annotations"][0].update(segmentation=[[0, 0, 1e9, 0, 5, 5]]),
        "a point at 1e.09, far out",
    ),
    "odd polygon": (
        lambda d: d["annotations"][0].update(segmentation=[[0, 0, 1, 1, 2]]),
        "a polygon of 5 numbers",
    ),
    "negative runs": (
        lambda d: d["annotations"][0].update(segmentation={"size": SHAPE, "counts": [700, -100]}),
        "do not add up",
    ),
    "too many runs": (
        lambda d: d["annotations"][0].update(segmentation={"size": SHAPE, "counts": [10**12]}),
        "do not add up",
    ),
    "broken code": (
        lambda d: d["annotations"][0].update(segmentation={"size": SHAPE, "counts": "zz"}),
        "not a run-length code",
    ),
    "mask of another size": (
        lambda d: d["annotations"][0].update(segmentation={"size": [9, 9], "counts": [81]}),
        r"a mask of \(9, 9\)",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_named(tmp_path: Path, name: str) -> None:
    spoil, message = BROKEN[name]
    content = document(annotation(as_polygon(1, 1, 5, 5)))
    spoiled = spoil(content)
    path = write(tmp_path, spoiled if isinstance(spoiled, bytes) else content)
    with pytest.raises(SpecError, match=message) as refusal:
        read(path, "cell")
    assert "truth.json" in str(refusal.value)


def test_one_image_in_two_files_is_refused(tmp_path: Path) -> None:
    files = [write(tmp_path, document(), name) for name in ("one.json", "two.json")]
    with pytest.raises(SpecError, match=r"one\.json: a\.png is annotated in .*two\.json"):
        CocoTruth(files)


def panoptic(folder: Path, file_name: str = "a.png") -> Path:
    regions = np.zeros((*SHAPE, 3), np.uint8)
    regions[2:8, 3:12] = (1, 2, 0)
    regions[10:, :] = (5, 0, 1)
    regions[10:, 20:] = (6, 0, 0)
    (folder / "panoptic").mkdir(exist_ok=True)
    Image.fromarray(regions).save(folder / "panoptic" / "a.png")
    content = document() | {
        "categories": [
            {"id": 1, "name": "cell", "isthing": 1},
            {"id": 2, "name": "glass", "isthing": 0},
        ],
        "annotations": [
            {
                "image_id": 7,
                "file_name": file_name,
                "segments_info": [
                    {"id": 1 + 2 * 256, "category_id": 1, "iscrowd": 0},
                    {"id": 5 + 256**2, "category_id": 2},
                    {"id": 6, "category_id": 1, "iscrowd": 1},
                ],
            }
        ],
    }
    return write(folder, content)


def test_panoptic_regions(tmp_path: Path) -> None:
    path = panoptic(tmp_path)
    assert CocoTruth([path]).class_names == ("cell",)
    truth = read(path, "cell")
    np.testing.assert_array_equal(truth.labels, rectangle(2, 3, 8, 12))
    np.testing.assert_array_equal(truth.crowds[0], rectangle(10, 20, 20, 30))
    nothing_known = ~(rectangle(2, 3, 8, 12) | rectangle(10, 0, 20, 30))
    np.testing.assert_array_equal(truth.void, nothing_known)
    assert [(one.area, one.crowd) for one in truth.objects] == [(54, False), (100, True)]


def test_panoptic_files_that_lie(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="leads out of the folder"):
        CocoTruth([panoptic(tmp_path, "../a.png")])
    with pytest.raises(SpecError, match=r"b\.png is in none of"):
        CocoTruth([panoptic(tmp_path, "b.png")])
    path = panoptic(tmp_path)
    png = tmp_path / "panoptic" / "a.png"
    for spoiled, message in (
        (Image.new("RGB", SHAPE[::-1], (9, 9, 9)), "region 592137 is not in"),
        (Image.new("L", SHAPE[::-1]), "L of 20 x 30"),
        (Image.new("RGB", (9, 9)), "RGB of 9 x 9"),
    ):
        spoiled.save(png)
        with pytest.raises(SpecError, match=message):
            read(path, "cell")
    png.write_bytes(b"nonsense")
    with pytest.raises(SpecError, match=r"a\.png: cannot be read"):
        read(path, "cell")


def test_real_panoptic_photographs(shared_data: Path) -> None:
    """Areas and boxes are those that COCO wrote beside the masks."""
    compared = crowds = 0
    for path in sorted((shared_data / "coco").glob("*.json")):
        raw = json.loads(path.read_text())
        names = {one["id"]: one["name"] for one in raw["categories"] if one["isthing"]}
        truth = CocoTruth([path])
        classes = {name: i for i, name in enumerate(truth.class_names)}
        by_id = {one["image_id"]: one["segments_info"] for one in raw["annotations"]}
        for entry in truth.entries.values():
            shape = entry.picture.height, entry.picture.width
            found = truth.objects(entry, shape, classes)
            things = [one for one in by_id[entry.picture.id] if one["category_id"] in names]
            expected = Counter(
                (names[one["category_id"]], one["area"], tuple(one["bbox"]), one["iscrowd"])
                for one in things
            )
            got = Counter(
                (truth.class_names[one.class_index], one.area, tuple(one.box), int(one.crowd))
                for one in found.objects
            )
            assert got == expected
            assert found.hidden == 0
            compared += len(things)
            crowds += sum(one["iscrowd"] for one in things)
    assert compared > 300
    assert crowds > 0


def test_polygons_are_filled_as_pycocotools_fills_them(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        polygons = [rng.uniform(-3, 33, 2 * rng.integers(3, 7)).tolist() for _ in range(2)]
        runs = pycocotools_mask.merge(pycocotools_mask.frPyObjects(polygons, *SHAPE))
        truth = read(write(tmp_path, document(annotation(polygons))), "cell")
        np.testing.assert_array_equal(truth.labels, decode(runs["counts"].decode(), SHAPE))


def index(folder: Path, text: str) -> ImageIndex:
    path = folder / "index.csv"
    path.write_text(text, encoding="utf-8")
    return ImageIndex(path)


class TestIndex:
    IMAGES = ("x/a.png", "x/b.png", "c.tif")

    def test_finds_images_by_path_name_or_stem(self, tmp_path: Path) -> None:
        for names in (("a", "b", "c"), ("a.png", "b.png", "c.tif"), self.IMAGES):
            rows = "\n".join(f"9,{name},k{i}" for i, name in enumerate(names))
            table = index(tmp_path, f"\ufeffnumber,who,kind\n{rows}\n")
            assert table.column("kind", self.IMAGES) == ["k0", "k1", "k2"]

    def test_an_exact_name_wins(self, tmp_path: Path) -> None:
        table = index(tmp_path, "file,kind\na.png,stem\nx/a.png,path\nb,other\n")
        assert table.column("kind", self.IMAGES) == ["path", "other", None]

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("", "first line must name"),
            ("file,file\na,b\n", "each differently"),
            ("file,kind\na,1,2\n", "row 2 has 3 values for 2"),
            ("file,sort\na,1\n", "no column 'kind'; it has: file, sort"),
            ("file,kind\nz,1\n", "no column names one of the images, such as x/a.png"),
            ("file,kind\na,1\na,2\n", "'a' is more than once in the column 'file'"),
        ],
    )
    def test_refuses(self, tmp_path: Path, text: str, message: str) -> None:
        with pytest.raises(SpecError, match=message) as refusal:
            index(tmp_path, text).column("kind", self.IMAGES)
        assert "index.csv" in str(refusal.value)

    def test_refuses_what_is_no_text(self, tmp_path: Path) -> None:
        (tmp_path / "index.csv").write_bytes(b"\xff\xfe\x00")
        with pytest.raises(SpecError, match="not a CSV file"):
            ImageIndex(tmp_path / "index.csv")
        with pytest.raises(SpecError, match="cannot be read"):
            ImageIndex(tmp_path / "absent.csv")
