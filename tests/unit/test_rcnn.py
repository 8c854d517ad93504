"""R-CNN: what is proposed, what is learnt, and that a network can learn it."""

from __future__ import annotations

import builtins
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from skimage import data

from segpipe.errors import SpecError, WeightsError
from segpipe.measure.boxes import box_iou, boxes_of
from segpipe.records import DecodedImage, Header
from segpipe.segmenters.build import build
from segpipe.segmenters.catalog import ResolvedModel, resolve
from segpipe.segmenters.proposals import Search, require_opencv, selective_search, to_bytes
from segpipe.segmenters.rcnn import Judged, RCNNSegmenter
from segpipe.segmenters.rcnn_network import build_rcnn, decode, encode, warp
from segpipe.segmenters.weights import TileRule, WeightsHeader, save
from segpipe.spec import PercentileScaling, Preprocess, RCNNOptions, RunSpec
from segpipe.training.augment import Crop
from segpipe.training.learner import build_learner
from segpipe.training.rcnn import OBJECT_IOU, assign, move
from segpipe.training.recipe import Recipe, read_recipe

CAT = data.chelsea()[60:156, 90:218]
SMALL = {"backbone": "lite0", "side": 32, "width": 32}


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def discs(centres, radius: int = 9, side: int = 96) -> np.ndarray:
    """Labels 1..N of discs, a later one over an earlier."""
    y, x = np.mgrid[:side, :side]
    labels = np.zeros((side, side), np.int64)
    for label, (cy, cx) in enumerate(centres, start=1):
        labels[(y - cy) ** 2 + (x - cx) ** 2 <= radius**2] = label
    return labels


def grey(labels: np.ndarray) -> np.ndarray:
    """A noisy image of them, (H, W, 3)."""
    noise = np.random.default_rng(0).normal(0, 6, labels.shape)
    plane = np.clip(40 + 150 * (labels > 0) + noise, 0, 255).astype(np.uint8)
    return np.repeat(plane[..., None], 3, axis=2)


class TestSelectiveSearch:
    def test_separate_objects_are_all_proposed(self) -> None:
        labels = discs([(20, 20), (20, 70), (60, 40), (80, 80)])
        boxes = selective_search(grey(labels), Search())
        assert (box_iou(boxes_of(labels), boxes).max(axis=1) > 0.7).all()

    @pytest.mark.parametrize("mode", ["single", "fast", "quality"])
    def test_the_same_image_gives_the_same_boxes_in_the_same_order(self, mode) -> None:
        first = selective_search(CAT, Search(mode))
        selective_search(CAT[::-1].copy(), Search(mode))
        np.testing.assert_array_equal(first, selective_search(CAT, Search(mode)))
        assert len(np.unique(first, axis=0)) == len(first) > 10

    def test_a_thorough_search_finds_what_a_faster_one_finds_and_more(self) -> None:
        single, fast, quality = (
            {tuple(box) for box in selective_search(CAT, Search(mode)).tolist()}
            for mode in ("single", "fast", "quality")
        )
        assert single < fast < quality

    @pytest.mark.parametrize("shape", [(1, 1), (1, 300), (3, 200), (40, 50)])
    def test_boxes_of_any_image_lie_in_it_and_are_large_enough(self, shape) -> None:
        image = np.resize(CAT, (*shape, 3))
        for min_side in (1, 8):
            boxes = selective_search(image, Search(min_side=min_side, max_side=64))
            assert (boxes[:, :2] >= 0).all()
            assert (boxes[:, 2:] <= [shape[1], shape[0]]).all()
            assert (boxes[:, 2:] - boxes[:, :2] >= min_side).all()

    def test_a_large_image_is_searched_smaller_and_boxes_are_in_its_pixels(self) -> None:
        labels = discs([(20, 20), (60, 60)])
        large = np.kron(grey(labels), np.ones((4, 4, 1), np.uint8))
        boxes = selective_search(large, Search(max_side=96))
        assert (box_iou(4 * boxes_of(labels), boxes).max(axis=1) > 0.7).all()

    def test_bytes_are_the_scaled_image_whatever_the_normalisation(self) -> None:
        unit = np.array([[[0.0, 0.5]], [[1.0, 2.0]], [[-3.0, 0.25]]], np.float32)
        mean, std = (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)
        planes = (unit - np.reshape(mean, (3, 1, 1))) / np.reshape(std, (3, 1, 1))
        expected = [[[0, 255, 0], [128, 255, 64]]]
        assert to_bytes(planes.astype(np.float32), mean, std).tolist() == expected

    def test_without_opencv_the_error_names_what_to_install(self, monkeypatch) -> None:
        real = builtins.__import__

        def without(name, *args, **kwargs):
            if name.startswith("cv2"):
                raise ModuleNotFoundError(name)
            return real(name, *args, **kwargs)

        monkeypatch.setattr(builtins, "__import__", without)
        with pytest.raises(SpecError, match=r"pip install 'segpipe\[rcnn\]'"):
            require_opencv()


corner = st.floats(-50, 50, width=32)
side = st.floats(2, 100, width=32)
box = st.tuples(corner, corner, side, side).map(lambda b: [b[0], b[1], b[0] + b[2], b[1] + b[3]])


class TestBoxes:
    @given(st.lists(st.tuples(box, box), min_size=1, max_size=5))
    def test_decoding_an_encoded_box_gives_it_back(self, pairs) -> None:
        regions, truth = torch.tensor(pairs).float().unbind(1)
        again = decode(regions, encode(regions, truth))
        torch.testing.assert_close(again, truth, atol=2e-3, rtol=0)

    def test_no_offset_leaves_the_region_as_it_is(self) -> None:
        regions = torch.tensor([[3.0, 4.0, 13.0, 24.0]])
        assert torch.equal(decode(regions, torch.zeros(1, 4)), regions)

    def test_a_wild_answer_stays_finite(self) -> None:
        assert decode(torch.tensor([[0.0, 0, 10, 10]]), torch.full((1, 4), 1e4)).isfinite().all()

    def test_a_region_is_warped_with_its_surroundings(self) -> None:
        """The region is the middle of the square; outside the image there are zeros."""
        planes = torch.ones(1, 3, 40, 40)
        planes[:, :, 12:20, 4:20] = 5.0
        inside = torch.tensor([[4.0, 12, 20, 20]])
        (square,) = warp(planes, [inside], 32, 0.25)
        assert torch.equal(square[:, 9:23, 9:23], torch.full((3, 14, 14), 5.0))
        assert square[:, :, -6:].max() == 1
        assert square[:, :, :2].max() == 0
        assert square[:, :6, 10:20].max() == 1

    def test_a_region_belongs_to_the_object_it_overlaps_most_and_enough(self) -> None:
        truth = np.array([[0, 0, 10, 10], [20, 0, 40, 10]], np.float32)
        regions = np.array([[0, 0, 10, 9], [22, 0, 41, 10], [0, 0, 40, 10], [50, 50, 60, 60]])
        nearest, is_object = assign(regions.astype(np.float32), truth)
        assert nearest[:2].tolist() == [0, 1]
        # The third holds the second object by IoU 20 * 10 / 400 = 0.5, just enough.
        assert nearest[2] == 1
        assert is_object.tolist() == [True, True, True, False]

    def test_of_moved_boxes_some_still_fit_and_some_do_not(self) -> None:
        boxes = np.array([[10, 10, 40, 30], [50, 20, 60, 60]], np.float32)
        moved = move(boxes, 200, np.random.default_rng(0))
        overlap = box_iou(moved[:200].astype(float), boxes[:1].astype(float))[:, 0]
        assert 0.25 < (overlap >= OBJECT_IOU).mean() < 0.75
        assert (moved[:, 2:] > moved[:, :2]).all()


def recipe(**network) -> Recipe:
    shipped, _ = read_recipe(Path("rcnn-nuclei"))
    values = shipped.model_dump()
    values["network"] |= network
    values["start"] = "none"
    return Recipe.model_validate(values)


def crop(labels: np.ndarray, classes: list[int] | None = None) -> Crop:
    planes = torch.from_numpy(grey(labels).transpose(2, 0, 1) / 127.5 - 1).float()
    class_ids = torch.tensor([0, *(classes or [1] * labels.max())])
    return Crop(planes.contiguous(), torch.from_numpy(labels), class_ids, None)


class TestLearner:
    def test_regions_have_the_class_and_the_box_of_their_object(self) -> None:
        labels = discs([(20, 20), (20, 70), (70, 40)])
        learner = build_learner(recipe(regions=64))
        _, regions, classes, offsets = learner.item(crop(labels, [1, 1, 1]))
        truth = boxes_of(labels)
        iou = box_iou(regions.double().numpy(), truth)
        assert torch.equal(classes > 0, torch.from_numpy(iou.max(axis=1) >= OBJECT_IOU))
        objects = classes > 0
        assert 0 < objects.sum() <= 32
        torch.testing.assert_close(
            decode(regions, offsets)[objects],
            torch.from_numpy(truth[iou.argmax(axis=1)]).float()[objects],
            atol=1e-3,
            rtol=0,
        )

    def test_classes_are_those_of_the_objects(self) -> None:
        values = recipe(regions=32).model_dump()
        three = Recipe.model_validate(values | {"classes": ("background", "round", "other")})
        labels = discs([(20, 20), (70, 70)])
        _, regions, classes, _ = build_learner(three).item(crop(labels, [2, 1]))
        upper = regions[:, 1] < 45
        assert set(classes[upper].tolist()) == {0, 2}
        assert set(classes[~upper].tolist()) == {0, 1}

    def test_a_crop_is_always_learnt_from_alike(self) -> None:
        learner = build_learner(recipe())
        one, other = (learner.item(crop(discs([(30, 30)]))) for _ in range(2))
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))

    def test_slivers_are_background(self) -> None:
        labels = np.zeros((96, 96), np.int64)
        labels[40:43, 0:3] = 1
        _, _, classes, _ = build_learner(recipe(min_object=12)).item(crop(labels))
        assert not classes.any()

    @pytest.mark.parametrize("mode", ["train", "eval"])
    def test_losses_are_finite_without_any_object(self, mode) -> None:
        learner = build_learner(recipe(regions=4))
        getattr(learner.network, mode)()
        batch = learner.collate([learner.item(crop(np.zeros((96, 96), np.int64)))] * 2)
        losses = learner.losses(learner.network, batch)
        assert losses["box"] == 0
        assert losses["class"].isfinite()

    def test_a_network_learns_to_tell_objects_and_to_find_their_boxes(self) -> None:
        torch.manual_seed(0)
        learner = build_learner(recipe(regions=16, architecture=SMALL))
        batch = learner.collate(
            [learner.item(crop(discs([(20, 20), (60, 70)]))), learner.item(crop(discs([(50, 30)])))]
        )
        optimiser = torch.optim.AdamW(learner.network.parameters(), 2e-3)
        history = []
        for _ in range(12):
            losses = learner.losses(learner.network, batch)
            optimiser.zero_grad()
            sum(losses.values()).backward()
            optimiser.step()
            history.append({name: loss.item() for name, loss in losses.items()})
        assert history[-1]["class"] < history[0]["class"] / 3
        assert history[-1]["box"] < history[0]["box"] / 2

    def test_options_of_another_kind_are_refused(self) -> None:
        values = recipe().model_dump() | {"postprocess": {"kind": "detector"}}
        with pytest.raises(SpecError, match="not that of an R-CNN"):
            build_learner(Recipe.model_validate(values))


def save_random(folder: Path, network: torch.nn.Module, **options) -> Path:
    header = WeightsHeader(
        name="random",
        kind="rcnn",
        task="boxes",
        description="random",
        licence="CC0-1.0",
        architecture=SMALL,
        classes=("background", "disc", "other"),
        preprocess=Preprocess(scaling=PercentileScaling()),
        postprocess=RCNNOptions(**options),
        tile=TileRule(multiple_of=1, max_side=4096),
    )
    path = folder / "random.safetensors"
    tensors = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
    save(path, tensors, header)
    return path


def resolved(path: Path, **run) -> ResolvedModel:
    return resolve(RunSpec(source="", store="", model=str(path), device="cpu", **run))


class TestSegmenter:
    def segmenter(self, folder: Path, **options) -> RCNNSegmenter:
        torch.manual_seed(0)
        path = save_random(folder, build_rcnn(SMALL, 3), **options)
        built = build(resolved(path).spec, path)
        assert isinstance(built, RCNNSegmenter)
        return built

    def test_a_weights_file_has_its_options_and_a_run_may_change_them(self, tmp_path) -> None:
        path = save_random(tmp_path, build_rcnn(SMALL, 3), nms_threshold=0.45)
        spec = resolved(path, options={"mode": "quality"}, batch_images=4).spec
        assert (spec.model.kind, spec.model.task) == ("rcnn", "boxes")
        assert (spec.options.nms_threshold, spec.options.mode) == (0.45, "quality")
        assert spec.batch_images == 4
        assert resolved(path).spec.batch_images == 1
        with pytest.raises(SpecError, match="mode = 'slow'"):
            resolved(path, options={"mode": "slow"})

    def test_tensors_of_another_architecture_are_refused(self, tmp_path) -> None:
        path = save_random(tmp_path, build_rcnn({**SMALL, "width": 64}, 3))
        with pytest.raises(WeightsError, match="head"):
            build(resolved(path).spec, path)

    def test_of_overlapping_boxes_of_a_class_the_best_is_left(self, tmp_path) -> None:
        segmenter = self.segmenter(tmp_path, score_threshold=0.6, nms_threshold=0.3)
        first, near, far, out = [2, 2, 22, 22], [4, 2, 24, 22], [40, 40, 60, 60], [50, 70, 90, 120]
        scores = [
            [0.3, 0.7, 0.0],  # of `first`: worse than `near`, and in its way
            [0.1, 0.9, 0.0],
            [0.4, 0.6, 0.0],  # just enough
            [0.41, 0.59, 0.0],  # not enough
            [0.2, 0.0, 0.8],  # another class, out of the image at the right and below
            [0.25, 0.0, 0.75],  # another class at the place of `near`: nobody is in its way
        ]
        boxes = np.array([[box, box] for box in (first, near, far, far, out, near)], np.float32)
        image = decoded(CAT[:80, :80])
        found = segmenter.finish(Judged(np.array(scores, np.float32), boxes, cut=False), image)
        np.testing.assert_allclose(found.scores, [0.9, 0.8, 0.75, 0.6], rtol=1e-6)
        assert found.class_ids.tolist() == [1, 2, 2, 1]
        assert np.argwhere(found.label_image == 1)[[0, -1]].tolist() == [[2, 4], [21, 23]]
        assert np.argwhere(found.label_image == 2)[[0, -1]].tolist() == [[70, 50], [79, 79]]
        assert not found.saturated

    def test_proposals_beyond_the_limit_are_told(self, tmp_path) -> None:
        for limit, saturated in ((5, True), (5000, False)):
            segmenter = self.segmenter(tmp_path, max_proposals=limit, score_threshold=1.0)
            image = decoded(CAT)
            prepared = segmenter.prepare(image)
            assert (len(prepared.boxes) == limit) == saturated
            (raw,) = segmenter.forward([prepared])
            assert segmenter.finish(raw, image).saturated == saturated

    def test_no_proposal_is_no_object(self, tmp_path) -> None:
        segmenter = self.segmenter(tmp_path, min_side=50)
        image = decoded(CAT[:20, :20])
        (raw,) = segmenter.forward([segmenter.prepare(image)])
        assert segmenter.finish(raw, image).n_objects == 0


def decoded(pixels: np.ndarray) -> DecodedImage:
    return DecodedImage(pixels, Header(*pixels.shape, str(pixels.dtype), "png", "test"), "0" * 64)
