"""Detectors on images that are looked at part by part: as if they had been seen whole."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image

from segpipe.masks.paint import unpaint
from segpipe.measure.evaluation import Agreement
from segpipe.measure.matching import match, true_positives
from segpipe.records import DecodedImage, Header, Instances, Segmentation
from segpipe.segmenters.base import Segmenter, View
from segpipe.segmenters.build import build
from segpipe.segmenters.catalog import SHIPPED, resolve_model
from segpipe.segmenters.detectors import DetectorSegmenter
from segpipe.segmenters.preprocess import value_range
from segpipe.segmenters.weights import load_tensors, read_header, save
from tests.parts import through_store

SHIPPED_DETECTOR = SHIPPED / "mask-rcnn-nuclei.safetensors"
TILES = {"side": 384, "halo": 96}
LARGE = {"max_pixels": 1}


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Tests beside these leave few cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Mosaic(NamedTuple):
    image: DecodedImage
    truth: np.ndarray


def decoded(pixels: np.ndarray) -> DecodedImage:
    height, width, channels = pixels.shape
    return DecodedImage(pixels, Header(height, width, channels, pixels.dtype.name, "png", ""), "")


def fields(folder: Path, side: str) -> list[tuple[np.ndarray, np.ndarray]]:
    """Real fields of nuclei that were not trained on, and their true labels."""
    with (folder / "nuclei" / "index.csv").open() as file:
        names = sorted(
            row["image_id"] for row in csv.DictReader(file)
            if (row["kind"], row["width"], row["height"]) == ("fluorescence", side, side)
            and row["split"] == "val"
        )  # fmt: skip
    found = []
    for name in names[:4]:
        (image,) = (folder / "nuclei" / "images").glob(f"{name}.*")
        (labels,) = (folder / "nuclei" / "labels").glob(f"{name}.*")
        truth = np.asarray(Image.open(labels)).astype(np.uint32)
        found.append((np.asarray(Image.open(image).convert("L")), truth))
    return found


@pytest.fixture(scope="module")
def mosaic(shared_data: Path) -> Mosaic:
    """(512, 512, 1): four fields side by side."""
    (a, true_a), (b, true_b), (c, true_c), (d, true_d) = fields(shared_data, "256")
    truth = np.block([[true_a, true_b], [true_c, true_d]])
    quarter = np.kron(np.arange(4).reshape(2, 2), np.ones((256, 256), int))
    apart = np.where(truth > 0, truth + quarter * int(truth.max()), 0)
    return Mosaic(decoded(np.block([[a, b], [c, d]])[..., None]), apart)


@pytest.fixture(scope="module")
def boxes_only(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained Faster R-CNN: the shipped Mask R-CNN without the part that draws masks."""
    header = read_header(SHIPPED_DETECTOR).model_copy(
        update={"kind": "faster_rcnn", "task": "boxes", "name": "boxes"}
    )
    tensors = load_tensors(SHIPPED_DETECTOR)
    boxes = {name: tensor for name, tensor in tensors.items() if ".mask_" not in name}
    assert len(boxes) < len(tensors)
    path = tmp_path_factory.mktemp("weights") / "boxes.safetensors"
    save(path, boxes, header)
    return path


def tiled(model: str = "mask-rcnn-nuclei", **asked: object) -> DetectorSegmenter:
    asked = {"limits": LARGE, "tiles": TILES, "device": "cpu", "precision": "fp32", **asked}
    found = resolve_model(model, "a test", **asked)
    segmenter = build(found.spec, found.weights_path)
    assert isinstance(segmenter, DetectorSegmenter)
    return segmenter


def whole(model: str = "mask-rcnn-nuclei", **options: object) -> DetectorSegmenter:
    found = resolve_model(model, "a test", device="cpu", precision="fp32", options=options)
    segmenter = build(found.spec, found.weights_path)
    assert isinstance(segmenter, DetectorSegmenter)
    return segmenter


def view_of(image: DecodedImage) -> View:
    preprocess = tiled().spec.model.preprocess
    assert preprocess
    return View(*value_range(image.pixels, preprocess.scaling))


AS_TILED = {"min_size": 1024, "max_size": 1024}
"""The mosaic seen whole in the magnification of parts, which is 2."""


def segment(segmenter: Segmenter, image: DecodedImage) -> Segmentation:
    (raw,) = segmenter.forward([segmenter.prepare(image)])
    return segmenter.finish(raw, image)


def same(one: Segmentation, other: Segmentation, threshold: float = 0.5) -> float:
    """Share of the objects of both that have a counterpart."""
    overlaps = match(one.label_image, other.label_image)
    pairs = true_positives(overlaps, threshold)
    return pairs / (one.n_objects + other.n_objects - pairs)


def worst_overlap(found: Instances) -> float:
    """The largest share of an object that lies in another one."""
    worst = 0.0
    for i, one in enumerate(found.masks):
        height, width = one.mask.shape
        for other in found.masks[i + 1 :]:
            y0, x0 = max(one.y0, other.y0), max(one.x0, other.x0)
            y1 = min(one.y0 + height, other.y0 + other.mask.shape[0])
            x1 = min(one.x0 + width, other.x0 + other.mask.shape[1])
            if y0 < y1 and x0 < x1:
                common = (
                    one.mask[y0 - one.y0 : y1 - one.y0, x0 - one.x0 : x1 - one.x0]
                    & other.mask[y0 - other.y0 : y1 - other.y0, x0 - other.x0 : x1 - other.x0]
                ).sum()
                worst = max(worst, common / min(one.mask.sum(), other.mask.sum()))
    return worst


@pytest.fixture(scope="module")
def seen_tiled(mosaic: Mosaic) -> Segmentation:
    """In nine tiles."""
    return through_store(tiled(), mosaic.image)


def test_tiled_is_untiled_on_real_nuclei(mosaic: Mosaic, seen_tiled: Segmentation) -> None:
    seen_whole = segment(whole(**AS_TILED), mosaic.image)
    assert seen_whole.n_objects > 60
    assert same(seen_whole, seen_tiled) > 0.98
    quality = [Agreement.of("", mosaic.truth, one.label_image) for one in (seen_whole, seen_tiled)]
    assert quality[1].ap == pytest.approx(quality[0].ap, abs=0.005)
    assert quality[1].precisions[0] == pytest.approx(quality[0].precisions[0], abs=0.005)
    assert worst_overlap(unpaint(seen_tiled)) < 0.5  # nothing is there twice
    assert not seen_tiled.saturated


def test_what_a_limit_hides_is_found_in_quarters(mosaic: Mosaic, seen_tiled: Segmentation) -> None:
    """The mosaic is one tile here, with more objects than a look may give."""
    one_tile = {"side": 512, "halo": 64}
    limited = through_store(tiled(tiles=one_tile, options={"max_detections": 40}), mosaic.image)
    assert seen_tiled.n_objects > 60
    assert same(limited, seen_tiled) > 0.97
    assert worst_overlap(unpaint(limited)) < 0.5
    assert not limited.saturated


def test_what_quarters_hide_too_is_told(mosaic: Mosaic) -> None:
    found = through_store(tiled(options={"max_detections": 1}), corner(mosaic, 256))
    assert found.saturated


def corner(mosaic: Mosaic, side: int) -> DecodedImage:
    return decoded(np.ascontiguousarray(mosaic.image.pixels[:side, :side]))


def test_a_part_of_the_usual_size_is_what_a_small_image_is(mosaic: Mosaic) -> None:
    """Bit by bit: 256 pixels are brought to 512 in both."""
    image = corner(mosaic, 256)
    of_parts, of_images = tiled(), whole()
    view = view_of(image)
    (part,) = of_parts.forward([of_parts.prepare_part(image, view)])
    (small,) = of_images.forward([of_images.prepare(image)])
    assert len(part.scores) > 10
    for name in ("boxes_xyxy", "scores", "class_ids", "masks"):
        np.testing.assert_array_equal(getattr(part, name), getattr(small, name))


@pytest.mark.parametrize("shape", [(256, 256), (256, 96), (33, 256), (1, 1)])
def test_parts_of_all_shapes_have_one_scale(mosaic: Mosaic, shape: tuple[int, int]) -> None:
    inner = tiled()
    view = view_of(mosaic.image)
    part = decoded(np.ascontiguousarray(mosaic.image.pixels[: shape[0], : shape[1]]))
    (raw,) = inner.forward([inner.prepare_part(part, view)])
    assert raw.resized == (2 * shape[0], 2 * shape[1])


def test_a_part_has_room_for_its_magnification(mosaic: Mosaic) -> None:
    """1344 pixels, where torchvision's rule brings a whole image to 512."""
    header = replace(mosaic.image.header, height=672, width=672)
    asked = {"side": 672, "halo": 96, "magnification": 2.0}
    part, small = tiled(tiles=asked), tiled(tiles={**asked, "magnification": 0.5})
    more = part.part_footprint(header, 1.0).forward - small.footprint(header).forward
    assert more >= 400 * ((2 * 672) ** 2 - 512**2)


def test_a_part_that_vanishes_has_no_objects(mosaic: Mosaic) -> None:
    inner = tiled(tiles={**TILES, "magnification": 0.25})
    part = decoded(np.ascontiguousarray(mosaic.image.pixels[:3]))
    (raw,) = inner.forward([inner.prepare_part(part, view_of(mosaic.image))])
    assert inner.finish(raw, part).n_objects == 0


def test_boxes_of_parts_are_boxes_of_the_whole(mosaic: Mosaic, boxes_only: Path) -> None:
    image = corner(mosaic, 384)
    found = through_store(tiled(str(boxes_only), tiles={"side": 288, "halo": 96}), image)
    seen_whole = segment(whole(str(boxes_only), min_size=768, max_size=768), image)
    assert seen_whole.n_objects > 40
    assert same(found, seen_whole) > 0.97
    assert worst_overlap(unpaint(found)) < 0.6
    assert all(one.mask.all() for one in unpaint(found).masks)


def test_a_box_that_no_part_saw_whole_is_put_together_as_a_box(
    shared_data: Path, boxes_only: Path
) -> None:
    """Nuclei of 70 pixels and more, with a halo of 32."""
    image = decoded(fields(shared_data, "360")[1][0][..., None])
    tiles = {"side": 160, "halo": 32, "magnification": 0.5}
    found = through_store(tiled(str(boxes_only), tiles=tiles), image)
    seen_whole = segment(whole(str(boxes_only), min_size=180, max_size=180), image)
    masks = unpaint(found).masks
    assert sum(max(one.mask.shape) > 2 * 32 for one in masks) > 5
    assert all(one.mask.all() for one in masks)
    assert same(found, seen_whole) > 0.9
