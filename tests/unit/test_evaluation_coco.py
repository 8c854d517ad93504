"""COCO's average precision, against pycocotools and against faster-coco-eval."""

from __future__ import annotations

import contextlib
import io
from dataclasses import replace
from typing import Any

import faster_coco_eval
import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from segpipe.masks.rle import encode
from segpipe.measure.coco import AREAS, CocoImage, CocoObject, Kind, rank_coco
from segpipe.records import CroppedMask

SIDE = 150
CLASSES = 3
OTHERS = [(COCO, COCOeval), (faster_coco_eval.COCO, faster_coco_eval.COCOeval_faster)]

Scene = tuple[list[CocoObject], list[CocoObject]]


def ellipse(class_index: int, y0: int, x0: int, height: int, width: int, **more: Any) -> CocoObject:
    """Cut at the border of the image."""
    y0, x0 = max(0, y0), max(0, x0)
    height, width = max(1, min(height, SIDE - y0)), max(1, min(width, SIDE - x0))
    y, x = np.mgrid[:height, :width]
    mask = ((y + 0.5) / height - 0.5) ** 2 + ((x + 0.5) / width - 0.5) ** 2 < 0.26
    box = x0, y0, width, height
    return CocoObject(class_index, box, CroppedMask(y0, x0, mask), float(mask.sum()), **more)


def scene(rng: np.random.Generator) -> Scene:
    """Objects of all sizes, some of them crowds; predictions near them, doubled, and elsewhere."""

    def anywhere(**more: Any) -> CocoObject:
        sides = rng.integers(3, rng.choice([10, 50, 140]), 2)
        return ellipse(int(rng.integers(CLASSES)), *rng.integers(0, SIDE - 3, 2), *sides, **more)

    def score() -> float:
        return float(rng.integers(1, 6)) / 5  # few values: many are equal

    truth = [anywhere(crowd=bool(rng.random() < 0.15)) for _ in range(rng.integers(0, 12))]
    predicted = [anywhere(score=score()) for _ in range(rng.integers(0, 4))]
    for one in truth:
        x, y, width, height = (int(value) for value in one.box)
        for _ in range(rng.integers(0, 3)):
            dy, dx, dh, dw = rng.integers(-2, 3, 4)
            place = y + dy, x + dx, height + dh, width + dw
            predicted.append(ellipse(one.class_index, *place, score=score()))
    return truth, predicted


def other_ap(scenes: list[Scene], kind: Kind, tools: tuple[Any, Any]) -> dict[str, np.ndarray]:
    """(class, threshold) for each range of areas, by a library; NaN without a truth."""
    load, evaluate = tools
    sides: tuple[list[dict[str, Any]], ...] = ([], [])
    for number, objects in enumerate(scenes, start=1):
        for side, own in zip(sides, objects, strict=True):
            side += [
                {
                    "id": len(side) + i,
                    "image_id": number,
                    "category_id": one.class_index + 1,
                    "bbox": list(map(float, one.box)),
                    "segmentation": {
                        "size": [SIDE, SIDE], "counts": encode(one.mask, (SIDE, SIDE))
                    },
                    "area": one.area,
                    "iscrowd": int(one.crowd),
                    "score": one.score,
                }
                for i, one in enumerate(own, start=1)
            ]  # fmt: skip
    for one in sides[1]:
        del one["area"], one["id"], one["segmentation" if kind == "bbox" else "bbox"]
    with contextlib.redirect_stdout(io.StringIO()):
        truth = load()
        truth.dataset = {
            "images": [{"id": i + 1, "height": SIDE, "width": SIDE} for i in range(len(scenes))],
            "categories": [{"id": c + 1, "name": str(c)} for c in range(CLASSES)],
            "annotations": sides[0],
        }
        truth.createIndex()
        evaluation = evaluate(truth, truth.loadRes(sides[1]), kind)
        evaluation.params.maxDets = [1, 10, 1000]
        evaluation.evaluate()
        evaluation.accumulate()
    precision = evaluation.eval["precision"][..., -1]  # threshold, recall, class, area
    precision = np.where(precision < 0, np.nan, precision).mean(axis=1)
    return {area: precision[..., a].T for a, area in enumerate(AREAS)}


def own_ap(scenes: list[Scene], kind: Kind, weights: np.ndarray, area: str = "all") -> np.ndarray:
    matches = rank_coco([CocoImage(*one, kind) for one in scenes], CLASSES)
    return matches.average_precision(weights.astype(float), area)


@pytest.mark.parametrize("kind", ["bbox", "segm"])
@pytest.mark.parametrize("tools", OTHERS, ids=["pycocotools", "faster_coco_eval"])
def test_agrees_with(kind: Kind, tools: tuple[Any, Any]) -> None:
    rng = np.random.default_rng(7)
    found = set()
    for _ in range(12):
        scenes = [scene(rng) for _ in range(5)]
        expected = other_ap(scenes, kind, tools)
        for area in AREAS:
            got = own_ap(scenes, kind, np.ones((1, 5)), area)[0]
            np.testing.assert_allclose(got, expected[area], atol=1e-9, err_msg=area)
            found.add(round(float(np.nan_to_num(got).mean()), 3))
    assert len(found) > 20, "the scenes decide nothing"


@pytest.mark.parametrize("kind", ["bbox", "segm"])
def test_a_weight_is_how_often_an_image_is_there(kind: Kind) -> None:
    """Of equal scores COCO takes those first that stand first, so here no two are equal."""
    rng = np.random.default_rng(1)
    scenes = [
        (truth, [replace(one, score=float(rng.random())) for one in predicted])
        for truth, predicted in (scene(rng) for _ in range(4))
    ]
    weights = np.array([[1, 1, 1, 1], [2, 0, 1, 3], [0, 3, 0, 1]])
    found = own_ap(scenes, kind, weights)
    for row, times in zip(found, weights, strict=True):
        repeated = [one for one, n in zip(scenes, times, strict=True) for _ in range(n)]
        expected = other_ap(repeated, kind, OTHERS[0])["all"]
        np.testing.assert_allclose(row, expected, atol=1e-9)


def test_a_hand_case() -> None:
    true = [ellipse(0, 10, 10, 20, 20), ellipse(0, 60, 60, 20, 20)]
    right = replace(true[0], score=0.9)
    wrong = ellipse(0, 110, 110, 20, 20, score=0.95)
    ap = own_ap([(true, [right, wrong])], "segm", np.ones((1, 1)))[0]
    # The best precision is 1/2, up to recall 1/2: recalls 0.00 to 0.50 of 101.
    np.testing.assert_allclose(ap[0], 0.5 * 51 / 101)
    assert np.isnan(ap[1:]).all()


def test_a_crowd_is_neither_found_nor_wrong() -> None:
    crowd = ellipse(0, 0, 0, 100, 100, crowd=True)
    true = ellipse(0, 120, 120, 20, 20)
    inside = [ellipse(0, 40, y, 9, 9, score=0.9) for y in (30, 45, 60)]
    scenes = [([crowd, true], [*inside, replace(true, score=0.1)])]
    assert (own_ap(scenes, "segm", np.ones((1, 1)))[0, 0] == 1).all()


def test_nothing_at_all() -> None:
    assert np.isnan(own_ap([([], [])], "segm", np.ones((2, 1)))).all()
    one = ellipse(0, 10, 10, 20, 20)
    assert (own_ap([([one], [])], "segm", np.ones((1, 1)))[0, 0] == 0).all()
    assert np.isnan(own_ap([([], [one])], "segm", np.ones((1, 1)))).all()
