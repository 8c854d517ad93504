"""What every `Segmenter` promises, asked of each of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from skimage import data

from segpipe.records import DecodedImage, Header, Segmentation
from segpipe.segmenters.base import Segmenter
from segpipe.segmenters.build import build
from segpipe.segmenters.detector_network import build_detector
from segpipe.segmenters.devices import has_openvino
from segpipe.segmenters.published import IMAGENET
from segpipe.segmenters.rcnn_network import build_rcnn
from segpipe.segmenters.unet_network import build_unet
from segpipe.segmenters.weights import TileRule, WeightsHeader, save, sha256_file
from segpipe.spec import (
    Backend,
    ClassicalOptions,
    DetectorOptions,
    ModelSpec,
    PercentileScaling,
    Preprocess,
    RCNNOptions,
    SegmentSpec,
    UNetOptions,
)

CLASSES = ("background", "cell", "other")
DETECTOR = DetectorOptions(score_threshold=0.34, max_detections=30, min_size=32, max_size=64)
UNET = {"encoder": "tf_efficientnet_lite0", "decoder_channels": [16, 8, 8, 8, 8], "outputs": 3}
RCNN = {"backbone": "lite0", "side": 32, "width": 32}
OPENVINO = pytest.mark.skipif(
    not has_openvino(), reason="OpenVINO is absent: pip install 'segpipe[openvino]'"
)
CASES = [
    "classical",
    "unet-instances",
    "unet-semantic",
    pytest.param("unet-instances-openvino", marks=OPENVINO),
    "mask_rcnn",
    "faster_rcnn",
    "rcnn",
]


def with_weights(
    model: ModelSpec,
    options: Any,
    network: torch.nn.Module,
    path: Path,
    backend: Backend = "torch",
) -> Segmenter:
    """Save a network with random weights and build its segmenter.

    A U-Net takes 3 images at once, in bf16 for instances and in fp32 for classes, and R-CNN takes
    any number.
    """
    header = WeightsHeader(
        name="random",
        kind=model.kind,
        task=model.task,
        description="random",
        licence="CC0-1.0",
        architecture=model.architecture,
        classes=model.classes,
        preprocess=model.preprocess,
        postprocess=options,
        tile=TileRule(multiple_of=32, max_side=4096),
    )
    tensors = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
    save(path, tensors, header)
    model = model.model_copy(update={"weights_sha256": sha256_file(path)})
    batch = 3 if model.kind in ("unet", "rcnn") else 1
    precision = "bf16" if (model.kind, model.task) == ("unet", "instances") else "fp32"
    spec = SegmentSpec(
        model=model, options=options, batch_images=batch, precision=precision, backend=backend
    )
    return build(spec, path)


def make(case: str, folder: Path) -> Segmenter:
    torch.manual_seed(3)
    path = folder / "random.safetensors"
    match case.split("-"):
        case ["classical"]:
            model = ModelSpec(name="classical", kind="classical", classes=CLASSES)
            return build(SegmentSpec(model=model, options=ClassicalOptions()), None)
        case ["unet", task, *others]:
            backend = others[0] if others else "torch"
            model = ModelSpec(
                name="random",
                kind="unet",
                task=task,
                architecture=UNET,
                classes=CLASSES if task == "semantic" else CLASSES[:2],
                preprocess=Preprocess(scaling=PercentileScaling()),
            )
            return with_weights(model, UNetOptions(), build_unet(UNET), path, backend)
        case ["rcnn"]:
            model = ModelSpec(
                name="random",
                kind="rcnn",
                task="boxes",
                architecture=RCNN,
                classes=CLASSES,
                preprocess=Preprocess(scaling=PercentileScaling()),
            )
            options = RCNNOptions(score_threshold=0.34, max_proposals=100)
            return with_weights(model, options, build_rcnn(RCNN, len(CLASSES)), path)
        case [kind]:
            model = ModelSpec(
                name="random",
                kind=kind,
                task="instances" if kind == "mask_rcnn" else "boxes",
                architecture={"version": 1},
                classes=CLASSES,
                preprocess=IMAGENET,
            )
            return with_weights(model, DETECTOR, build_detector(model, DETECTOR), path)
    raise AssertionError(case)


@pytest.fixture(scope="module", params=CASES)
def segmenter(request: pytest.FixtureRequest, tmp_path_factory) -> Iterator[Segmenter]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield make(request.param, tmp_path_factory.mktemp(request.param))
    torch.set_num_threads(before)


def decoded(pixels: np.ndarray) -> DecodedImage:
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    return DecodedImage(pixels, Header(*pixels.shape, str(pixels.dtype), "png", "test"), "0" * 64)


def segment(segmenter: Segmenter, *images: DecodedImage) -> list[Segmentation]:
    raws = segmenter.forward([segmenter.prepare(image) for image in images])
    assert len(raws) == len(images)
    return [segmenter.finish(raw, image) for raw, image in zip(raws, images, strict=True)]


def assert_equal(one: Segmentation, other: Segmentation) -> None:
    np.testing.assert_array_equal(one.label_image, other.label_image)
    np.testing.assert_array_equal(one.scores, other.scores)
    np.testing.assert_array_equal(one.class_ids, other.class_ids)
    np.testing.assert_array_equal(one.semantic, other.semantic)
    assert (one.saturated, one.n_discarded) == (other.saturated, other.n_discarded)
    assert one.own_masks.keys() == other.own_masks.keys()
    for label, crop in one.own_masks.items():
        np.testing.assert_array_equal(crop.mask, other.own_masks[label].mask)


COINS = data.coins()[:96, :128]
CELLS = data.coins()[100:196, 200:328]
CAT = data.chelsea()[60:156, 90:218]

IMAGES = {
    "grey uint8": COINS,
    "rgb uint8": CAT,
    "grey uint16": COINS.astype(np.uint16) * 257,
    "rgb uint16": CAT.astype(np.uint16) * 200,
    "grey float32": COINS.astype(np.float32) / 7 - 3,
    "rgb float64": CAT / 1e6,
    "grey int32": COINS.astype(np.int32) - 2**20,
    "one pixel": np.full((1, 1), 5, np.uint8),
    "3 x 200": np.resize(COINS, (3, 200)),
    "constant": np.full((40, 50), 255, np.uint8),
    "constant float": np.zeros((33, 65, 3), np.float32),
}


class TestSegmenterContract:
    @pytest.mark.parametrize("image", IMAGES.values(), ids=IMAGES.keys())
    def test_any_image_gives_a_consistent_answer(self, segmenter, image) -> None:
        image = decoded(image)
        (found,) = segment(segmenter, image)
        n = found.n_objects
        assert found.label_image.shape == image.header.shape
        assert found.label_image.dtype == np.uint32
        assert (found.scores.shape, found.scores.dtype) == ((n,), np.float32)
        assert (found.class_ids.shape, found.class_ids.dtype) == ((n,), np.int32)
        in_range = (found.scores >= 0) & (found.scores <= 1)
        assert np.all(in_range | np.isnan(found.scores))
        assert np.all((found.class_ids >= 1) & (found.class_ids < len(CLASSES)))
        shown = set(np.unique(found.label_image).tolist()) - {0}
        # A label that is not shown belongs to an object that others cover.
        assert shown <= set(range(1, n + 1)) <= shown | set(found.own_masks)

    @pytest.mark.parametrize("image", [COINS, CAT], ids=["grey", "rgb"])
    def test_own_masks_are_of_overlapping_objects_and_hold_what_is_shown(
        self, segmenter, image
    ) -> None:
        image = decoded(image)
        (found,) = segment(segmenter, image)
        coverage = np.zeros(image.header.shape, np.int32)
        full = {}
        for label in range(1, found.n_objects + 1):
            full[label] = found.label_image == label
            if label in found.own_masks:
                crop = found.own_masks[label]
                h, w = crop.mask.shape
                own = np.zeros_like(full[label])
                own[crop.y0 : crop.y0 + h, crop.x0 : crop.x0 + w] = crop.mask
                assert own.any()
                assert not (full[label] & ~own).any()
                full[label] = own
            coverage += full[label]
        overlapping = {label for label, mask in full.items() if (coverage[mask] > 1).any()}
        assert set(found.own_masks) == overlapping

    def test_semantic_is_a_class_per_pixel_where_the_task_has_one(self, segmenter) -> None:
        image = decoded(CAT)
        (found,) = segment(segmenter, image)
        if segmenter.spec.model.task == "semantic":
            assert found.semantic.shape == image.header.shape
            assert found.semantic.dtype == np.uint8
            assert found.semantic.max() < len(CLASSES)
            inside = found.label_image > 0
            expected = found.class_ids[found.label_image[inside] - 1]
            assert np.array_equal(found.semantic[inside], expected)
        else:
            assert found.semantic is None

    def test_answer_does_not_depend_on_what_came_before(self, segmenter) -> None:
        (first,) = segment(segmenter, decoded(COINS))
        for other in (CAT, IMAGES["3 x 200"], IMAGES["constant"]):
            segment(segmenter, decoded(other))
        (again,) = segment(segmenter, decoded(COINS))
        assert_equal(first, again)

    def test_batch_mates_of_one_shape_change_nothing(self, segmenter) -> None:
        if segmenter.spec.batch_images == 1:
            pytest.skip("takes one image per batch")
        batch = [decoded(COINS), decoded(CELLS), decoded(COINS[::-1].copy())]
        together = segment(segmenter, *batch)
        for image, found in zip(batch, together, strict=True):
            (alone,) = segment(segmenter, image)
            assert_equal(alone, found)

    def test_image_is_left_as_it_was(self, segmenter) -> None:
        image = decoded(CAT.copy())
        image.pixels.setflags(write=False)
        segment(segmenter, image)
        assert np.array_equal(image.pixels, CAT)

    def test_the_objects_of_real_images_are_found(self, segmenter) -> None:
        """So that the other promises are not kept by answering nothing."""
        (found,) = segment(segmenter, decoded(CAT))
        assert found.n_objects > 0
