"""What a detector learns from a crop, and that it learns it."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from segpipe.errors import SpecError
from segpipe.spec import DetectorOptions, PercentileScaling, Preprocess, UNetOptions
from segpipe.training.augment import Crop
from segpipe.training.detection import DetectionLearner
from segpipe.training.recipe import DataRecipe, OptimiserRecipe, Recipe

SIDE = 64
PARTS = {"objectness", "rpn_box_reg", "classifier", "box_reg", "mask"}


def learner(kind: str = "mask_rcnn", **network: object) -> DetectionLearner:
    """A small detector of two classes, with the same random weights each time."""
    torch.manual_seed(0)
    architecture = {
        "backbone": "lite0_fpn",
        "fpn_channels": 16,
        "anchor_sizes": [8, 16, 32, 64],
        "box_channels": 32,
        "mask_channels": [16],
    }
    recipe = Recipe(
        name="test",
        description="",
        licence="",
        classes=("background", "disc", "square"),
        network={"kind": kind, "architecture": architecture, "roi_batch": 32, **network},
        preprocess=Preprocess(scaling=PercentileScaling()),
        postprocess=DetectorOptions(),
        data=DataRecipe(name="", licence=""),
        optimiser=OptimiserRecipe(steps=1),
    )
    return DetectionLearner(recipe)


def discs() -> Crop:
    """Three bright discs on a dark ground, and a square."""
    rows, columns = np.mgrid[:SIDE, :SIDE]
    labels = np.zeros((SIDE, SIDE), np.int64)
    for label, (y, x, radius) in enumerate([(14, 16, 9), (44, 15, 7), (36, 44, 12)], start=1):
        labels[(rows - y) ** 2 + (columns - x) ** 2 <= radius**2] = label
    labels[4:14, 40:50] = 4
    return crop(labels, [0, 1, 1, 1, 2])


def crop(labels: np.ndarray, class_ids: list[int]) -> Crop:
    planes = torch.from_numpy((labels > 0).astype(np.float32)).expand(3, -1, -1).contiguous()
    return Crop(planes, torch.from_numpy(labels), torch.tensor(class_ids), None)


@pytest.fixture(scope="module")
def thirty() -> DetectionLearner:
    """It learns objects of 30 pixels and more."""
    return learner(min_object=30)


def test_an_item_is_what_the_label_image_says() -> None:
    planes, target = learner().item(discs())
    assert planes.shape == (3, SIDE, SIDE)
    assert target["boxes"].dtype == torch.float32
    assert target["labels"].tolist() == [1, 1, 1, 2]
    assert target["boxes"][3].tolist() == [40, 4, 50, 14]
    assert target["masks"].dtype == torch.uint8
    assert target["masks"].sum((1, 2))[3] == 100
    assert "masks" not in learner("faster_rcnn").item(discs())[1]


@given(labels=arrays.arrays(np.int64, (12, 15), elements=st.integers(0, 4)))
@settings(max_examples=50, deadline=None)
def test_objects_of_few_pixels_are_left_out_and_others_lie_in_their_boxes(
    thirty: DetectionLearner, labels: np.ndarray
) -> None:
    _, target = thirty.item(crop(labels, [0, 2, 1, 2, 1]))
    sizes = np.bincount(labels.ravel(), minlength=5)
    expected = [label for label in range(1, 5) if sizes[label] >= 30]
    assert target["labels"].tolist() == [(0, 2, 1, 2, 1)[label] for label in expected]
    for label, box, mask in zip(expected, target["boxes"], target["masks"], strict=True):
        rows, columns = np.nonzero(labels == label)
        inside = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        assert box.tolist() == inside
        assert np.array_equal(mask.numpy(), labels == label)


@pytest.mark.parametrize("kind", ["mask_rcnn", "faster_rcnn"])
def test_losses_are_finite_without_any_object(kind: str) -> None:
    one = learner(kind)
    batch = one.collate([one.item(crop(np.zeros((SIDE, SIDE), np.int64), [0]))] * 2)
    losses = one.losses(one.network.train(), batch)
    assert losses.keys() == (PARTS if kind == "mask_rcnn" else PARTS - {"mask"})
    assert all(torch.isfinite(loss) for loss in losses.values())
    sum(losses.values()).backward()


def test_validation_changes_nothing_and_repeats_itself() -> None:
    one = learner()
    batch = one.collate([one.item(discs())])
    network = one.network.eval()
    before = copy.deepcopy(network.state_dict())
    with torch.no_grad():
        first = one.losses(network, batch)
        drawn = torch.rand(3)
        again = one.losses(network, batch)
    assert first == again
    assert not torch.equal(drawn, torch.rand(3))  # the caller's random numbers go on
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert not any(module.training for module in network.modules())


def test_a_crop_is_learnt_by_heart() -> None:
    one = learner()
    batch = one.collate([one.item(discs())])
    optimiser = torch.optim.AdamW(one.network.parameters(), 5e-3)
    one.network.train()
    history = []
    for _ in range(20):
        losses = one.losses(one.network, batch)
        optimiser.zero_grad()
        sum(losses.values()).backward()
        optimiser.step()
        history.append({name: float(loss.detach()) for name, loss in losses.items()})
    totals = [sum(losses.values()) for losses in history]
    assert np.mean(totals[-3:]) < 0.6 * totals[0], history


def test_options_of_another_kind_of_network_are_refused() -> None:
    recipe = Recipe(
        name="test",
        description="",
        licence="",
        classes=("background", "disc"),
        network={"kind": "mask_rcnn", "architecture": {"backbone": "lite0_fpn"}},
        preprocess=Preprocess(scaling=PercentileScaling()),
        postprocess=UNetOptions(),
        data=DataRecipe(name="", licence=""),
        optimiser=OptimiserRecipe(steps=1),
    )
    with pytest.raises(SpecError, match="postprocess"):
        DetectionLearner(recipe)
