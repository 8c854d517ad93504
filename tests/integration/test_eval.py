"""`segpipe eval` on stores that the pipeline wrote, beside pycocotools on the exported results."""

from __future__ import annotations

import contextlib
import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as pycocotools_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from segpipe.masks.paint import from_label_image, paint
from segpipe.pipeline import process_chunk
from segpipe.records import Chunk, CroppedMask, DecodedImage, Header, Instances, Segmentation
from segpipe.segmenters.base import Footprint
from segpipe.spec import ClassicalOptions, ModelSpec, SegmentSpec
from segpipe.store import create_store, layout
from tests.generated import refs
from tests.integration.conftest import Command

SHAPE = 60, 80
Box = tuple[int, int, int, int]


class Remembering:
    """A segmenter that knows the result of each image by the hash of its bytes."""

    def __init__(self, spec: SegmentSpec, results: Mapping[str, Segmentation]) -> None:
        self.spec = spec
        self._results = results

    def footprint(self, header: Header) -> Footprint:
        return Footprint(waiting=0, prepare=0, forward=0, finish=0)

    def prepare(self, image: DecodedImage) -> str:
        return image.sha256

    def forward(self, batch: Sequence[str]) -> Sequence[str]:
        return batch

    def finish(self, raw: str, image: DecodedImage) -> Segmentation:
        return self._results[raw]


def fill_store(
    folder: Path,
    results: Mapping[str, Segmentation],
    task: str,
    classes: tuple[str, ...],
    name: str = "remembering",
) -> Path:
    """Random images under these names, and a store with these results; returns the store."""
    model = ModelSpec(name=name, kind="classical", task=task, classes=classes)
    spec = SegmentSpec(model=model, options=ClassicalOptions())
    by_hash = {}
    for seed, (path, found) in enumerate(results.items()):
        file = folder / "images" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(seed).integers(0, 255, SHAPE, np.uint8)
        Image.fromarray(noise).save(file)
        by_hash[sha256(file)] = found
    files = create_store(folder / "store")
    chunk = Chunk(spec.spec_id, refs(folder / "images"))
    process_chunk(chunk, Remembering(spec, by_hash), files, f"run-{name}")
    record = {"spec_id": spec.spec_id, "segment_spec": spec.model_dump(mode="json")}
    files.create(layout.run_file(f"run-{name}", "record.json"), json.dumps(record).encode())
    return files.root


def sha256(path: Path) -> str:
    import hashlib

    return hashlib.sha256(path.read_bytes()).hexdigest()


def crop(box: Box) -> CroppedMask:
    y0, x0, y1, x1 = box
    return CroppedMask(y0, x0, np.ones((y1 - y0, x1 - x0), bool))


def plane(box: Box) -> np.ndarray:
    mask = np.zeros(SHAPE, np.uint8)
    y0, x0, y1, x1 = box
    mask[y0:y1, x0:x1] = 1
    return mask


def boxes(rng: np.random.Generator, count: int) -> list[Box]:
    corners = rng.integers((0, 0), (SHAPE[0] - 8, SHAPE[1] - 8), (count, 2))
    ends = np.minimum(corners + rng.integers(5, 56, (count, 2)), SHAPE)
    return [(*start, *end) for start, end in zip(corners.tolist(), ends.tolist(), strict=True)]


MODEL = ("background", "person", "car", "tree")
TRUTH = {1: "car", 4: "person", 6: "kite"}


def detect(rng: np.random.Generator, truth: Sequence[tuple[int, Box, bool]]) -> Segmentation:
    """Most objects, moved a little, and some that are not there; they overlap."""
    found = []
    for category, (y0, x0, y1, x1), _ in truth:
        if category in (1, 4) and rng.random() < 0.8:
            dy, dx = rng.integers(0, 3, 2)
            near = (max(0, y0 - dy), max(0, x0 - dx), y1 - dy, x1 - dx)
            found.append((MODEL.index(TRUTH[category]), near))
    found += [(int(rng.integers(1, 4)), box) for box in boxes(rng, 2)]
    scores = np.sort(rng.random(len(found)).astype(np.float32))[::-1]
    order = rng.permutation(len(found))
    masks = tuple(crop(found[i][1]) for i in order)
    class_ids = np.array([found[i][0] for i in order], np.int32)
    return paint(Instances(masks, scores, class_ids), SHAPE)


@pytest.fixture(scope="module")
def street(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of overlapping objects of three classes, and a COCO truth that knows two of them."""
    folder = tmp_path_factory.mktemp("street")
    rng = np.random.default_rng(11)
    images, annotations, results = [], [], {}
    for number in range(1, 9):
        path = f"{number % 2}/street-{number}.png"
        truth = [
            (int(rng.choice([1, 4, 6])), box, bool(rng.random() < 0.1))
            for box in boxes(rng, int(rng.integers(1, 7)))
        ]
        results[path] = detect(rng, truth)
        height, width = SHAPE
        images.append({"id": number, "file_name": path, "height": height, "width": width})
        for category, box, crowd in truth:
            runs = pycocotools_mask.encode(np.asfortranarray(plane(box)))
            y0, x0, y1, x1 = box
            polygon = [[x0, y0, x1, y0, x1, y1, x0, y1]]
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": category,
                    "iscrowd": int(crowd),
                    "bbox": [x0, y0, x1 - x0, y1 - y0],
                    "area": (y1 - y0) * (x1 - x0),
                    "segmentation": {"size": list(SHAPE), "counts": runs["counts"].decode()}
                    if crowd or len(annotations) % 2
                    else polygon,
                }
            )
    images.append({"id": 99, "file_name": "unseen.png", "height": 1, "width": 1})
    categories = [{"id": number, "name": name} for number, name in TRUTH.items()]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "truth.json").write_text(json.dumps(content))
    fill_store(folder, results, "instances", MODEL)
    return folder


def evaluated(segpipe: Command, *arguments: str | Path) -> dict[str, Any]:
    code, out, errors = segpipe("eval", *arguments, "--json")
    assert code == 0, errors
    return json.loads(out, parse_constant=pytest.fail)


def pycocotools_ap(truth: Path, exported: Path, kind: str) -> dict[str, float]:
    """mAP and mAP by class, of the classes that both sides know."""
    results = json.loads(exported.read_text())
    with contextlib.redirect_stdout(io.StringIO()):
        gt = COCO(str(truth))
        image_ids = {one["file_name"]: one["id"] for one in gt.dataset["images"]}
        numbers = {one["id"]: image_ids[one["file_name"]] for one in results["images"]}
        names = {one["id"]: one["name"] for one in results["categories"]}
        ids = {one["name"]: one["id"] for one in gt.dataset["categories"]}
        found = [
            {
                "image_id": numbers[one["image_id"]],
                "category_id": ids[names[one["category_id"]]],
                "score": one["score"],
            }
            | ({"bbox": one["bbox"]} if kind == "bbox" else {"segmentation": one["segmentation"]})
            for one in results["annotations"]
            if names[one["category_id"]] in ids
        ]
        evaluation = COCOeval(gt, gt.loadRes(found), kind)
        evaluation.params.catIds = [1, 4]
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    precision = evaluation.eval["precision"][:, :, :, 0, -1].mean(axis=(0, 1))
    return {"all": evaluation.stats[0], "car": precision[0], "person": precision[1]} | {
        "ap50": evaluation.stats[1], "ap75": evaluation.stats[2], "ap_small": evaluation.stats[3],
        "ap_medium": evaluation.stats[4],
    }  # fmt: skip


def test_coco_numbers_are_those_of_pycocotools(
    segpipe: Command, street: Path, tmp_path: Path
) -> None:
    found = evaluated(segpipe, street / "store", "--truth", street / "truth.json")
    assert segpipe("export", street / "store", "--format", "coco", "--out", tmp_path)[0] == 0
    scores = found["all"]["scores"]
    by_class = {one["class_name"]: one["scores"] for one in found["all"]["classes"]}
    assert set(by_class) == {"person", "car"}
    for kind, prefix in (("segm", "coco_mask_"), ("bbox", "coco_box_")):
        expected = pycocotools_ap(street / "truth.json", tmp_path / "instances.json", kind)
        assert scores[f"{prefix}ap"]["value"] == pytest.approx(expected["all"])
        for name in ("ap50", "ap75", "ap_small", "ap_medium"):
            assert scores[f"{prefix}{name}"]["value"] == pytest.approx(expected[name]), name
        for name, own in by_class.items():
            assert own[f"{prefix}ap"]["value"] == pytest.approx(expected[name])
    assert 0.1 < scores["coco_mask_ap"]["value"] < 0.95
    interval = scores["coco_mask_ap"]
    assert interval["low"] < interval["value"] < interval["high"]


def test_what_was_not_compared_is_counted(segpipe: Command, street: Path) -> None:
    truth = json.loads((street / "truth.json").read_text())
    found = evaluated(segpipe, street / "store", "--truth", street / "truth.json")
    kites = sum(one["category_id"] == 6 for one in truth["annotations"])
    known = [one for one in truth["annotations"] if one["category_id"] != 6]
    left = found["not_compared"]
    assert left["truth_of_other_classes"] == {"kite": kites}
    assert list(left["predicted_of_other_classes"]) == ["tree"]
    assert left["crowds"] == sum(one["iscrowd"] for one in known) > 0
    assert found["pooled"]["n_truth"] == len(known) - left["crowds"] - left["hidden_truth"]
    assert (found["n_images"], found["truth_without_image"]) == (8, 1)
    _, table, _ = segpipe("eval", street / "store", "--truth", street / "truth.json")
    assert "kite" in table
    assert "tree" in table
    assert all(len(line) < 80 for line in table.splitlines())


def test_panoptic_quality_is_the_mean_of_the_classes(segpipe: Command, street: Path) -> None:
    found = evaluated(segpipe, street / "store", "--truth", street / "truth.json")
    counts = {one["class_name"]: one for one in found["by_class"]}
    for one in found["all"]["classes"]:
        assert one["scores"]["pq"]["value"] == pytest.approx(counts[one["class_name"]]["pq"])
    mean = np.mean([one["pq"] for one in counts.values()])
    assert found["all"]["scores"]["pq"]["value"] == pytest.approx(mean)
    assert sum(one["n_truth"] for one in counts.values()) == found["pooled"]["n_truth"]


def test_a_seed_decides_the_intervals(segpipe: Command, street: Path) -> None:
    arguments = (street / "store", "--truth", street / "truth.json", "--resamples", "50")
    first, second = (evaluated(segpipe, *arguments) for _ in range(2))
    assert first == second
    other = evaluated(segpipe, *arguments, "--seed", "1")
    assert other["all"] != first["all"]
    assert other["pooled"] == first["pooled"]


def write_index(path: Path, rows: Sequence[tuple[str, ...]]) -> Path:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return path


def test_subgroups_and_clusters(segpipe: Command, street: Path, tmp_path: Path) -> None:
    rows = [(f"street-{n}", "day" if n < 5 else "night", f"s{n // 3}") for n in range(1, 8)]
    index = write_index(tmp_path / "index.csv", [("name", "light", "street"), *rows])
    arguments = (street / "store", "--truth", street / "truth.json", "--index", index)
    found = evaluated(segpipe, *arguments, "--by", "light")
    assert [(one["name"], one["images"], one["units"]) for one in found["groups"]] == [
        ("day", 4, 4),
        ("night", 3, 3),
        (None, 1, 1),
    ]
    precisions = {Path(one["name"]).stem: one["precision"]["0.50"] for one in found["images"]}
    day = found["groups"][0]["scores"]["mean_ap50"]
    assert day["value"] == pytest.approx(np.mean([precisions[f"street-{n}"] for n in range(1, 5)]))
    assert day["low"] <= day["value"] <= day["high"]
    assert found["groups"][2]["scores"]["mean_ap50"]["low"] is None
    assert "(not listed)" in segpipe("eval", *arguments, "--by", "light")[1]

    code, _, errors = segpipe("eval", *arguments, "--cluster", "street")
    assert code == 2
    assert "street-8.png is not listed, so its street is not known" in errors
    write_index(index, [("name", "light", "street"), *rows, ("street-8", "night", "s2")])
    found = evaluated(segpipe, *arguments, "--by", "light", "--cluster", "street")
    assert [(one["name"], one["units"]) for one in found["groups"]] == [("day", 2), ("night", 2)]
    assert found["all"]["units"] == 3
    code, _, errors = segpipe(
        "eval", street / "store", "--truth", street / "truth.json", "--by", "x"
    )
    assert code == 2
    assert "--index" in errors


def test_the_picture_of_objects(segpipe: Command, street: Path, tmp_path: Path) -> None:
    drawn = []
    for name in ("one.png", "two.png"):
        arguments = (street / "store", "--truth", street / "truth.json", "--resamples", "0")
        code, _, errors = segpipe("eval", *arguments, "--picture", tmp_path / name)
        assert code == 0, errors
        drawn.append((tmp_path / name).read_bytes())
    assert drawn[0] == drawn[1]
    with Image.open(tmp_path / "one.png") as picture:
        pixels = np.asarray(picture).reshape(-1, 3)
        assert picture.width > 1000
    colours = {tuple(colour) for colour in np.unique(pixels, axis=0).tolist()}
    assert {(86, 180, 233), (213, 94, 0)} <= colours, "both what is right and what is wrong"


def test_boxes_are_compared_as_boxes(segpipe: Command, tmp_path: Path) -> None:
    """Two boxes that overlap: one hides much of the other, and both are found."""
    pair: list[Box] = [(0, 0, 40, 40), (10, 10, 50, 50)]
    found = paint(
        Instances(tuple(map(crop, pair)), np.array([0.9, 0.8], np.float32), np.ones(2, np.int32)),
        SHAPE,
    )
    store = fill_store(tmp_path, {"a.png": found}, "boxes", ("background", "thing"))
    content = {
        "images": [{"id": 1, "file_name": "a.png", "height": SHAPE[0], "width": SHAPE[1]}],
        "categories": [{"id": 1, "name": "thing"}],
        "annotations": [
            {"image_id": 1, "category_id": 1, "segmentation": [[x0, y0, x1, y0, x1, y1, x0, y1]]}
            for y0, x0, y1, x1 in pair
        ],
    }
    truth = tmp_path / "truth.json"
    truth.write_text(json.dumps(content))
    result = evaluated(segpipe, store, "--truth", truth)
    assert result["pooled"]["ap"] == 1
    assert result["all"]["scores"]["coco_box_ap"]["value"] == 1
    assert "coco_mask_ap" not in result["all"]["scores"]


def test_without_scores_there_is_no_curve(segpipe: Command, tmp_path: Path) -> None:
    labels = np.zeros(SHAPE, np.uint16)
    labels[5:20, 5:20], labels[30:40, 30:60] = 1, 2
    store = fill_store(tmp_path, {"a.png": from_label_image(labels)}, "instances", MODEL)
    (tmp_path / "truth").mkdir()
    Image.fromarray(labels).save(tmp_path / "truth" / "a.png")
    found = evaluated(segpipe, store, "--truth", tmp_path / "truth")
    assert found["all"]["scores"]["pq"] == {"value": 1, "low": None, "high": None}
    assert not any(name.startswith("coco") for name in found["all"]["scores"])


FLUID = ("background", "fluid", "drusen")


def semantic(classes: np.ndarray) -> Segmentation:
    objects = from_label_image(classes)
    return Segmentation(
        objects.label_image, objects.scores, objects.class_ids, semantic=classes.astype(np.uint8)
    )


def class_image(*regions: tuple[int, Box]) -> np.ndarray:
    image = np.zeros(SHAPE, np.uint8)
    for value, (y0, x0, y1, x1) in regions:
        image[y0:y1, x0:x1] = value
    return image


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three scans of two subjects: one half found, one right, one empty."""
    folder = tmp_path_factory.mktemp("scans")
    truths = {
        "s1_a.png": class_image((1, (10, 10, 30, 50)), (2, (40, 60, 50, 70))),
        "s1_b.png": class_image((1, (0, 0, 20, 20))),
        "s2_a.png": class_image(),
    }
    found = dict(truths) | {"s1_a.png": class_image((1, (10, 10, 20, 50)))}
    fill_store(folder, {n: semantic(one) for n, one in found.items()}, "semantic", FLUID)
    (folder / "truth").mkdir()
    for name, one in truths.items():
        Image.fromarray(one).save(folder / "truth" / name)
    write_index(
        folder / "index.csv", [("file", "subject"), ("s1_a", "1"), ("s1_b", "1"), ("s2_a", "2")]
    )
    return folder


def test_classes_of_pixels(segpipe: Command, scans: Path, tmp_path: Path) -> None:
    arguments = (scans / "store", "--truth", scans / "truth", "--index", scans / "index.csv")
    found = evaluated(segpipe, *arguments, "--by", "subject", "--cluster", "subject")
    assert (found["task"], found["class_names"]) == ("semantic", list(FLUID))
    fluid, drusen = found["pooled"]["classes"][1:]
    assert fluid["dice"] == pytest.approx(2 * 800 / (1200 + 800))
    assert (fluid["precision"], fluid["recall"]) == (1, pytest.approx(800 / 1200))
    assert (drusen["dice"], drusen["precision"], drusen["recall"]) == (0, 1, 0)
    assert found["all"]["scores"]["dice"]["value"] == pytest.approx((0.8 + 0) / 2)
    own = {one["class_name"]: one["scores"] for one in found["all"]["classes"]}
    assert own["fluid"]["mean_dice"]["value"] == pytest.approx((2 / 3 + 1) / 2)
    assert [one["units"] for one in found["groups"]] == [1, 1]
    assert found["groups"][1]["scores"]["dice"] == {"value": 1, "low": None, "high": None}

    picture = tmp_path / "scans.png"
    code, table, errors = segpipe("eval", *arguments, "--by", "subject", "--picture", picture)
    assert code == 0, errors
    assert "recall" in table
    assert all(len(line) < 80 for line in table.splitlines())
    with Image.open(picture) as image:
        assert image.mode == "RGB"


def test_regions_of_one_class(segpipe: Command, tmp_path: Path) -> None:
    regions = class_image((1, (0, 0, 9, 9)), (7, (20, 20, 40, 40)))
    results = {"a.png": semantic(np.minimum(regions, 1))}
    store = fill_store(tmp_path, results, "semantic", ("background", "fluid"))
    (tmp_path / "truth").mkdir()
    Image.fromarray(regions).save(tmp_path / "truth" / "a.png")
    code, _, errors = segpipe("eval", store, "--truth", tmp_path / "truth")
    assert code == 2
    assert "holds class 7" in errors
    assert "--binary-truth" in errors
    found = evaluated(segpipe, store, "--truth", tmp_path / "truth", "--binary-truth")
    assert found["all"]["scores"]["dice"]["value"] == 1


def test_what_cannot_be_compared_is_said(
    segpipe: Command, street: Path, scans: Path, tmp_path: Path
) -> None:
    truth = json.loads((street / "truth.json").read_text())
    for one in truth["categories"]:
        one["name"] += "s"
    renamed = tmp_path / "renamed.json"
    renamed.write_text(json.dumps(truth))
    cases: list[tuple[Path, list[str | Path], str]] = [
        (street, ["--truth", renamed], "person, car, tree; cars, persons, kites"),
        (street, ["--truth", tmp_path, "--truth", renamed], "one folder, or one or more COCO"),
        (street, ["--truth", scans / "truth"], "none of the 3 label images"),
        (street, ["--truth", street / "truth.json", "--binary-truth"], "semantic models of one"),
        (scans, ["--truth", scans / "truth", "--binary-truth"], "semantic models of one class"),
        (street, ["--truth", street / "absent.json"], "cannot be read: No such file"),
    ]
    for folder, arguments, message in cases:
        code, _, errors = segpipe("eval", folder / "store", *arguments)
        assert code == 2, errors
        assert message in errors
