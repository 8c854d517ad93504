"""`segpipe bench family`: what it prints, on models with random weights; how long is not tested."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from segpipe.bench.family import RECALL_AT, proposals_needed, write_without_masks
from segpipe.bench.images import FIELDS, simulated_images
from segpipe.cli.main import app
from segpipe.demo_fields import Scene, simulate_field
from segpipe.errors import SpecError
from segpipe.segmenters.build import build
from segpipe.segmenters.catalog import resolve
from segpipe.segmenters.detector_network import build_detector
from segpipe.segmenters.rcnn_network import build_rcnn
from segpipe.segmenters.weights import TileRule, WeightsHeader, load_tensors, save
from segpipe.spec import (
    DetectorOptions,
    ModelSpec,
    PercentileScaling,
    Preprocess,
    RCNNOptions,
    RunSpec,
)

CLASSES = ("background", "nucleus")
LIGHT = {
    "backbone": "lite0_fpn",
    "fpn_channels": 16,
    "box_channels": 16,
    "mask_channels": [16],
}
DETECTOR = DetectorOptions(score_threshold=0.4, max_detections=20, min_size=64, max_size=64)
RCNN = {"backbone": "lite0", "side": 32, "width": 16}


def write(folder: Path, kind: str, architecture: dict, options, network: torch.nn.Module) -> Path:
    header = WeightsHeader(
        name=f"random-{kind}".replace("_", "-"),
        kind=kind,
        task="instances" if kind == "mask_rcnn" else "boxes",
        description="random",
        licence="CC0-1.0",
        architecture=architecture,
        classes=CLASSES,
        preprocess=Preprocess(scaling=PercentileScaling()),
        postprocess=options,
        tile=TileRule(multiple_of=1, max_side=4096),
    )
    path = folder / f"{header.name}.safetensors"
    tensors = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
    save(path, tensors, header)
    return path


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> tuple[Path, Path]:
    """Files of an R-CNN and of a Mask R-CNN."""
    torch.manual_seed(1)
    folder = tmp_path_factory.mktemp("weights")
    model = ModelSpec(name="random", kind="mask_rcnn", architecture=LIGHT, classes=CLASSES)
    network = build_detector(model, DETECTOR)
    options = RCNNOptions(mode="single", score_threshold=0.4)
    return (
        write(folder, "rcnn", RCNN, options, build_rcnn(RCNN, len(CLASSES))),
        write(folder, "mask_rcnn", LIGHT, DETECTOR, network),
    )


@pytest.fixture(scope="module")
def fields(tmp_path_factory) -> tuple[Path, Path]:
    """Folders with two small images and their truth."""
    images, truth = (tmp_path_factory.mktemp(name) for name in ("images", "truth"))
    for seed, shape in enumerate([(64, 64), (48, 80)]):
        rng = np.random.default_rng(seed)
        pixels, labels = simulate_field(rng, shape, 4, Scene(radius=9.0))
        Image.fromarray(pixels).save(images / f"{seed}.png")
        Image.fromarray(labels).save(truth / f"{seed}.png")
    return images, truth


def call(*arguments: object) -> str:
    before = torch.get_num_threads()
    done = CliRunner().invoke(app, ["bench", "family", *map(str, arguments)])
    torch.set_num_threads(before)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.stdout


def options(weights: tuple[Path, Path]) -> tuple[object, ...]:
    return "--rcnn", weights[0], "--mask-rcnn", weights[1], "--rounds", 1, "--threads", 1


def test_all_three_models_are_measured_in_parts(weights, fields) -> None:
    images, truth = fields
    found = json.loads(call(images, "--truth", truth, *options(weights), "--json"))
    assert [*found["models"]] == ["R-CNN", "Faster R-CNN", "Mask R-CNN"]
    for model in found["models"].values():
        times = model["milliseconds"]
        parts = [times[name] for name in ("proposals", "network", "rest")]
        assert min(parts) > 0
        assert times["total"] == pytest.approx(sum(parts))
        recall = [model["recall"][str(n)] for n in RECALL_AT]
        assert recall == sorted(recall)
        assert 0 <= recall[0] <= recall[-1] <= 1
        assert 0 <= model["box_ap50"] <= 1
        assert model["proposals"] > 0
    masks = found["models"]["Mask R-CNN"]
    assert masks["times_mask_rcnn"] == 1
    for part in ("recall", "proposals"):
        assert found["models"]["Faster R-CNN"][part] == masks[part]
    assert found["models"]["R-CNN"]["recall"][str(RECALL_AT[-1])] > 0.5
    conditions = found["conditions"]
    assert conditions["sizes"] == {"64 x 64": 1, "48 x 80": 1}
    assert conditions["threads"] == 1
    assert {"torch", "opencv-contrib-python-headless"} <= conditions["packages"].keys()


def test_the_table_says_the_same_and_the_conditions(weights, fields) -> None:
    text = call(fields[0], *options(weights))
    assert "x Mask R-CNN" in text
    assert "recall" not in text  # of what is not known
    assert "1 of 64 x 64, 1 of 48 x 80" in text
    assert "fp32" in text
    assert "; 1 thread" in text


def test_faster_r_cnn_is_mask_r_cnn_without_its_mask_head(weights, tmp_path) -> None:
    write_without_masks(weights[1], tmp_path / "faster.safetensors")
    whole, rest = (load_tensors(path) for path in (weights[1], tmp_path / "faster.safetensors"))
    assert {name for name in whole if ".mask_" in name} == whole.keys() - rest.keys()
    assert all(torch.equal(whole[name], tensor) for name, tensor in rest.items())
    model = resolve(RunSpec(source="", store="", model=str(tmp_path / "faster.safetensors")))
    assert (model.spec.model.kind, model.spec.model.task) == ("faster_rcnn", "boxes")
    build(model.spec, model.weights_path)


def test_models_of_other_kinds_are_refused(weights) -> None:
    with pytest.raises(SpecError, match="is of the kind rcnn; here a mask_rcnn is needed"):
        call("--rcnn", weights[0], "--mask-rcnn", weights[0])


def test_truth_needs_images(fields) -> None:
    with pytest.raises(SpecError, match="of which images"):
        call("--truth", fields[1])


def test_simulated_images_have_truth_and_are_always_the_same() -> None:
    first, again = simulated_images(), simulated_images()
    assert len(first) == FIELDS
    for one, other in zip(first, again, strict=True):
        assert one.truth is not None
        assert one.truth.max() > 5
        np.testing.assert_array_equal(one.image.pixels, other.image.pixels)


def test_proposals_are_counted_until_one_fits() -> None:
    truth = np.array([[0, 0, 10, 10], [20, 20, 30, 30], [50, 50, 60, 60]], float)
    proposals = np.array(
        [[40, 0, 50, 10], [0, 0, 10, 4], [21, 20, 30, 30], [0, 0, 10, 5], [0, 0, 10, 10]], float
    )
    assert proposals_needed(truth, proposals).tolist() == [4, 3, np.inf]
    assert proposals_needed(truth, proposals[:0]).tolist() == [np.inf] * 3
