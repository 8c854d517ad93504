"""Our Mask R-CNN and Faster R-CNN answer what torchvision's own forward answers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from skimage import data
from torchvision.models import detection

from segpipe.errors import SpecError, WeightsError
from segpipe.records import DecodedImage, Header
from segpipe.segmenters.base import DeviceMemoryError
from segpipe.segmenters.build import build
from segpipe.segmenters.catalog import resolve
from segpipe.segmenters.detector_network import build_detector
from segpipe.segmenters.detectors import Detections, DetectorSegmenter, filled_boxes
from segpipe.segmenters.preprocess import to_planes, to_scalable
from segpipe.segmenters.published import IMAGENET
from segpipe.segmenters.transfer import to_device
from segpipe.segmenters.weights import TileRule, WeightsHeader, save
from segpipe.spec import DetectorOptions, ModelSpec, RunSpec, SegmentSpec, UNetOptions

CLASSES = ("background", "cat", "coin")
# Small inputs give few proposals, which is what takes the time.
LIMITS = {"score_threshold": 0.34, "max_detections": 40, "min_size": 48, "max_size": 64}
STOCK = {
    ("mask_rcnn", 1): detection.maskrcnn_resnet50_fpn,
    ("mask_rcnn", 2): detection.maskrcnn_resnet50_fpn_v2,
    ("faster_rcnn", 1): detection.fasterrcnn_resnet50_fpn,
    ("faster_rcnn", 2): detection.fasterrcnn_resnet50_fpn_v2,
}


def stock(kind: str, version: int) -> torch.nn.Module:
    """torchvision's own network, with random weights, without its normalisation."""
    torch.manual_seed(version)
    return STOCK[kind, version](
        weights=None,
        weights_backbone=None,
        num_classes=len(CLASSES),
        min_size=LIMITS["min_size"],
        max_size=LIMITS["max_size"],
        box_score_thresh=LIMITS["score_threshold"],
        box_detections_per_img=LIMITS["max_detections"],
        image_mean=(0.0, 0.0, 0.0),
        image_std=(1.0, 1.0, 1.0),
    ).eval()


def detector_spec(kind: str, version: int, precision: str = "fp32", **options) -> SegmentSpec:
    model = ModelSpec(
        name="random",
        kind=kind,
        architecture={"backbone": "resnet50_fpn", "version": version},
        classes=CLASSES,
        preprocess=IMAGENET,
    )
    return SegmentSpec(
        model=model, options=DetectorOptions(**{**LIMITS, **options}), precision=precision
    )


def decoded(pixels: np.ndarray) -> DecodedImage:
    return DecodedImage(pixels, Header(*pixels.shape, str(pixels.dtype), "png", "test"), "0" * 64)


def detect(segmenter: DetectorSegmenter, image: DecodedImage) -> Detections:
    (raw,) = segmenter.forward([segmenter.prepare(image)])
    return raw


def planes_of(segmenter: DetectorSegmenter, image: DecodedImage) -> torch.Tensor:
    (planes,) = to_device([segmenter.prepare(image)], torch.device("cpu"))
    return planes


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """State dicts of the stock networks, as torchvision publishes such."""
    folder = tmp_path_factory.mktemp("weights")
    for kind, version in STOCK:
        torch.save(stock(kind, version).state_dict(), folder / f"{kind}-{version}.pth")
    return folder


@pytest.fixture(scope="module")
def mask_rcnn(weights: Path) -> DetectorSegmenter:
    return DetectorSegmenter(detector_spec("mask_rcnn", 1), weights / "mask_rcnn-1.pth")


@pytest.mark.parametrize(("kind", "version"), list(STOCK))
def test_results_are_those_of_torchvision(weights: Path, kind: str, version: int) -> None:
    image = decoded(data.chelsea())
    shape = image.header.shape
    segmenter = DetectorSegmenter(detector_spec(kind, version), weights / f"{kind}-{version}.pth")
    raw = detect(segmenter, image)
    ours = segmenter.finish(raw, image)

    with torch.inference_mode():
        (theirs,) = stock(kind, version)([planes_of(segmenter, image)])
    assert len(theirs["scores"]) > 5
    np.testing.assert_allclose(raw.boxes_in(shape), theirs["boxes"].numpy(), atol=0.01)
    np.testing.assert_allclose(raw.scores, theirs["scores"].numpy(), atol=2e-5)
    assert raw.class_ids.tolist() == theirs["labels"].tolist()
    assert ours.saturated == (len(theirs["scores"]) == LIMITS["max_detections"])

    if kind == "mask_rcnn":
        masks = theirs["masks"][:, 0].numpy() >= 0.5
    else:
        masks = np.zeros((len(raw.scores), *shape), np.bool_)
        for mask, (x0, y0, x1, y1) in zip(masks, theirs["boxes"].round().int(), strict=True):
            mask[y0:y1, x0:x1] = True
    assert ours.n_discarded == np.sum(~masks.any((1, 2)))
    masks = masks[masks.any((1, 2))]
    expected = np.where(masks.any(0), masks.argmax(0) + 1, 0)
    # A pixel may differ where a probability is at the threshold.
    assert np.mean(ours.label_image != expected) < 1e-4
    shared = masks.sum(0) > 1
    assert set(ours.own_masks) == {i + 1 for i, mask in enumerate(masks) if mask[shared].any()}


def test_pixels_are_normalised_as_torchvision_does() -> None:
    pixels = data.chelsea()
    reference = detection.transform.GeneralizedRCNNTransform(48, 64, IMAGENET.mean, IMAGENET.std)
    theirs = reference.normalize(torch.from_numpy(pixels).permute(2, 0, 1) / 255)
    np.testing.assert_allclose(to_planes(pixels, IMAGENET), theirs.numpy(), atol=1e-6)


def test_limits_are_those_of_the_options(weights: Path) -> None:
    image = decoded(data.chelsea())
    spec = detector_spec("mask_rcnn", 1, max_detections=3)
    segmenter = DetectorSegmenter(spec, weights / "mask_rcnn-1.pth")
    few = segmenter.finish(detect(segmenter, image), image)
    assert few.n_objects + few.n_discarded == 3
    assert few.saturated
    spec = detector_spec("mask_rcnn", 1, score_threshold=1.0)
    segmenter = DetectorSegmenter(spec, weights / "mask_rcnn-1.pth")
    none = segmenter.finish(detect(segmenter, image), image)
    assert none.n_objects == 0
    assert not none.saturated


def test_boxes_are_not_rounded_to_bfloat16(weights: Path, mask_rcnn: DetectorSegmenter) -> None:
    """In 8 bits a coordinate near 90 would be a multiple of a half."""
    image = decoded(data.chelsea())
    spec = detector_spec("mask_rcnn", 1, precision="bf16")
    segmenter = DetectorSegmenter(spec, weights / "mask_rcnn-1.pth")
    raw = detect(segmenter, image)
    inner = raw.boxes_xyxy[(raw.boxes_xyxy > 1) & (raw.boxes_xyxy < 60)]
    rounded = torch.from_numpy(inner).bfloat16().float().numpy()
    assert raw.boxes_xyxy.dtype == raw.scores.dtype == raw.masks.dtype == np.float32
    assert np.mean(rounded == inner) < 0.1
    assert len(inner) > 20


def test_objects_without_a_pixel_are_counted(mask_rcnn: DetectorSegmenter) -> None:
    masks = np.stack([np.ones((28, 28)), np.zeros((28, 28)), np.ones((28, 28))])
    raw = Detections(
        np.array([[0, 0, 30, 30], [5, 5, 20, 20], [10, 10, 50, 50]], np.float32),
        np.array([0.9, 0.8, 0.7], np.float32),
        np.array([1, 2, 2], np.int32),
        masks.astype(np.float32),
        (64, 96),
    )
    found = mask_rcnn.finish(raw, decoded(np.zeros((128, 192, 3), np.uint8)))
    assert found.n_objects == 2
    assert found.n_discarded == 1
    assert found.class_ids.tolist() == [1, 2]
    assert found.label_image[30, 30] == 1
    assert found.label_image[90, 90] == 2
    assert set(found.own_masks) == {1, 2}


def test_filled_boxes_are_rounded_and_inside() -> None:
    boxes = np.array([[0.4, 1.6, 3.5, 4.4], [-3, 2, 99, 3], [2.1, 2.1, 2.2, 2.2]], np.float32)
    one, wide, none = filled_boxes(boxes, (10, 12))
    assert (one.y0, one.x0, one.mask.shape) == (2, 0, (2, 4))
    assert (wide.y0, wide.x0, wide.mask.shape) == (2, 0, (1, 12))
    assert none.mask.size == 0


@pytest.mark.parametrize("shape", [(1, 20_000), (20_000, 1)])
def test_image_that_the_resize_would_empty_has_no_objects(
    mask_rcnn: DetectorSegmenter, shape: tuple[int, int]
) -> None:
    image = decoded(np.full((*shape, 3), 7, np.uint8))
    found = mask_rcnn.finish(detect(mask_rcnn, image), image)
    assert found.n_objects == 0
    assert found.label_image.shape == shape


def test_memory_of_the_device_is_told_apart(
    mask_rcnn: DetectorSegmenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    def exhausted(images: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(mask_rcnn, "_detect", exhausted)
    with pytest.raises(DeviceMemoryError, match="1 images of 40x50"):
        mask_rcnn.forward([to_scalable(np.zeros((40, 50, 3), np.uint8), IMAGENET)])


def test_wrong_weights_are_refused(weights: Path, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="not the tensors"):
        DetectorSegmenter(detector_spec("mask_rcnn", 2), weights / "mask_rcnn-1.pth")
    code = tmp_path / "code.pth"
    torch.save({"x": Exploit(tmp_path / "ran")}, code)
    with pytest.raises(WeightsError, match="cannot be read as weights"):
        DetectorSegmenter(detector_spec("mask_rcnn", 1), code)
    assert not (tmp_path / "ran").exists()


class Exploit:
    """Unpickled, it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return open, (str(self.path), "w")


LIGHT = {
    "backbone": "lite0_fpn",
    "fpn_channels": 16,
    "anchor_sizes": [8, 16, 32, 64],
    "box_channels": 32,
    "mask_channels": [16],
}


@pytest.mark.parametrize("kind", ["mask_rcnn", "faster_rcnn"])
def test_a_light_detector_runs_from_its_weights_file_alone(kind: str, tmp_path: Path) -> None:
    """The file says all that is needed; kernels in half precision are taken."""
    torch.manual_seed(3)
    options = DetectorOptions(**{**LIMITS, "score_threshold": 0.3})
    network = build_detector(
        ModelSpec(name="light", kind=kind, architecture=LIGHT, classes=CLASSES), options
    )
    tensors = {
        name: (tensor.half() if tensor.ndim > 1 else tensor).contiguous()
        for name, tensor in network.state_dict().items()
    }
    header = WeightsHeader(
        name="light",
        kind=kind,
        task="instances" if kind == "mask_rcnn" else "boxes",
        description="random",
        licence="",
        architecture=LIGHT,
        classes=CLASSES,
        preprocess=IMAGENET,
        postprocess=options,
        tile=TileRule(multiple_of=1, max_side=4096),
    )
    path = tmp_path / "light.safetensors"
    save(path, tensors, header)
    model = resolve(RunSpec(source="", store="", model=str(path), device="cpu", precision="fp32"))
    segmenter = build(model.spec, model.weights_path)
    raw = detect(segmenter, image := decoded(data.chelsea()))

    network.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
    with torch.inference_mode():
        (direct,) = network.eval()([planes_of(segmenter, image)])
    assert len(raw.scores) > 0
    np.testing.assert_allclose(raw.boxes_in(image.header.shape), direct["boxes"], atol=0.01)
    np.testing.assert_allclose(raw.scores, direct["scores"], atol=1e-5)
    assert (raw.masks is None) == (kind == "faster_rcnn")
    assert segmenter.finish(raw, image).n_objects > 0


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"backbone": "vgg16"}, "backbone = 'vgg16'"),
        ({"anchor_sizes": [8, 16]}, "anchor_sizes.2"),
        ({"anchor_sizes": [0, 16, 32, 64]}, "anchor_sizes.0 = 0"),
        ({"aspect_ratios": []}, "aspect_ratios"),
        ({"fpn_channels": 1 << 20}, "fpn_channels = 1048576"),
        ({"version": 1}, "unknown key 'version'"),
    ],
)
def test_bad_light_architectures_are_refused(change: dict, complaint: str) -> None:
    model = ModelSpec(name="light", kind="mask_rcnn", architecture={**LIGHT, **change})
    with pytest.raises(SpecError, match=complaint):
        build_detector(model, DetectorOptions())


def test_what_is_not_a_detector_is_refused(tmp_path: Path) -> None:
    good = detector_spec("mask_rcnn", 1)
    spec = good.model_copy(update={"options": UNetOptions()})
    with pytest.raises(SpecError, match="not described as a detector"):
        DetectorSegmenter(spec, tmp_path / "none")
    model = good.model.model_copy(update={"architecture": {"version": 3}})
    with pytest.raises(SpecError, match="version = 3"):
        DetectorSegmenter(good.model_copy(update={"model": model}), tmp_path / "none")
