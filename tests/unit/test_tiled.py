"""Images over the tile budget: looked at part by part, they are what they are when seen whole."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage

from segpipe.errors import InputError
from segpipe.masks.paint import unpaint
from segpipe.measure.matching import match
from segpipe.pipeline import process_chunk
from segpipe.readers import list_collection
from segpipe.records import Chunk, DecodedImage, Header, Segmentation
from segpipe.segmenters.base import DeviceMemoryError, Footprint, View
from segpipe.segmenters.build import build, build_for_any_size
from segpipe.segmenters.catalog import resolve_model
from segpipe.segmenters.splitting import classes_of, regions_of
from segpipe.segmenters.tiled import TiledSegmenter
from segpipe.spec import Limits, Tiles
from segpipe.store import Snapshot, create_store
from tests.generated import SPEC

SIDE, HALO = 128, 32
TILES = Tiles(side=SIDE, halo=HALO, max_image_pixels=1 << 31)


def decoded(pixels: np.ndarray) -> DecodedImage:
    height, width, channels = pixels.shape
    return DecodedImage(pixels, Header(height, width, channels, pixels.dtype.name, "png", ""), "")


class Parts:
    """Bright connected pixels are objects; their classes are their grey values, if `semantic`."""

    def __init__(self, semantic: bool = False, most: int = 4) -> None:
        task = "semantic" if semantic else "instances"
        model = SPEC.model.model_copy(update={"task": task})
        limits = Limits(max_pixels=SIDE * SIDE)
        self.spec = SPEC.model_copy(update={"model": model, "limits": limits, "batch_images": 4})
        self.most = most
        self.views: list[View] = []

    def footprint(self, header: Header) -> Footprint:
        pixels = header.height * header.width
        return Footprint(pixels, pixels, pixels, pixels)

    def view(self, image: DecodedImage) -> View:
        return View(float(image.pixels.min()), float(image.pixels.max()))

    def prepare(self, image: DecodedImage) -> np.ndarray:
        return self.prepare_part(image, self.view(image))

    def prepare_part(self, part: DecodedImage, view: View) -> np.ndarray:
        self.views.append(view)
        return (part.pixels[..., 0] - view.low) / max(1.0, view.high - view.low)

    def magnification(self, diameter: float, part: tuple[int, int]) -> float:
        assert max(part) <= SIDE
        return 2.0 if diameter and diameter < 4 else 1.0

    def forward(self, batch: Sequence[np.ndarray]) -> list[np.ndarray]:
        assert len({one.shape for one in batch}) == 1
        if len(batch) > self.most:
            raise DeviceMemoryError("too many")
        return list(batch)

    def finish(self, raw: np.ndarray, image: DecodedImage) -> Segmentation:
        assert raw.shape == image.header.shape
        if self.spec.model.task == "semantic":
            return self.regions(*self.classes(raw, image.header.shape))
        labels, count = ndimage.label(raw > 0.5)
        return Segmentation(
            labels.astype(np.uint32), np.full(count, 0.5, np.float32), np.ones(count, np.int32)
        )

    def classes(self, raw: np.ndarray, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        maps = np.stack([1 - raw, raw * 0.6, raw * 0.4]).astype(np.float32)
        return classes_of(maps, 0.5)

    def regions(self, semantic: np.ndarray, confidence: np.ndarray) -> Segmentation:
        labels, scores, class_ids = regions_of(semantic, confidence, 1)
        return Segmentation(labels, scores, class_ids, semantic=semantic)


def segment(segmenter: object, image: DecodedImage) -> Segmentation:
    prepared = segmenter.prepare(image)  # type: ignore[attr-defined]
    (raw,) = segmenter.forward([prepared])  # type: ignore[attr-defined]
    return segmenter.finish(raw, image)  # type: ignore[attr-defined, no-any-return]


def scene(seed: int, shape: tuple[int, int], largest: int) -> np.ndarray:
    """Rectangles anywhere, on borders and corners of parts too; the first and last pixel tell the
    range of the values.
    """
    rng = np.random.default_rng(seed)
    pixels = np.zeros((*shape, 1), np.uint8)
    for _ in range(rng.integers(1, 60)):
        y, x = rng.integers(0, shape[0]), rng.integers(0, shape[1])
        height, width = rng.integers(1, largest + 1, 2)
        free = pixels[max(0, y - 1) : y + height + 1, max(0, x - 1) : x + width + 1]
        if not free.any():
            pixels[y : y + height, x : x + width] = 255
    return pixels


def objects(found: Segmentation) -> set[tuple]:
    parts = unpaint(found).masks
    return {(one.y0, one.x0, one.mask.shape, one.mask.tobytes()) for one in parts}


@given(
    st.integers(0, 2**32 - 1), st.tuples(st.integers(1, 400), st.integers(129, 400)),
    st.integers(1, HALO - 1), st.integers(1, 4),
)  # fmt: skip
@settings(max_examples=40, deadline=None)
def test_objects_of_parts_are_those_of_the_whole(
    seed: int, shape: tuple[int, int], largest: int, most: int
) -> None:
    image = decoded(scene(seed, shape, largest))
    inner = Parts(most=most)
    found = segment(TiledSegmenter(inner, TILES), image)
    assert objects(found) == objects(segment(Parts(), image))
    assert found.n_objects == len(objects(found))
    assert len({(view.low, view.high) for view in inner.views}) == 1
    assert len({view.magnification for view in inner.views[-1:]}) == 1


@given(st.integers(0, 2**32 - 1), st.tuples(st.integers(129, 400), st.integers(129, 400)))
@settings(max_examples=25, deadline=None)
def test_classes_of_parts_are_those_of_the_whole(seed: int, shape: tuple[int, int]) -> None:
    """Regions may be of any size: they are connected after the parts were put together."""
    image = decoded(scene(seed, shape, 300))
    found = segment(TiledSegmenter(Parts(semantic=True), TILES), image)
    whole = segment(Parts(semantic=True), image)
    np.testing.assert_array_equal(found.semantic, whole.semantic)
    np.testing.assert_array_equal(found.label_image, whole.label_image)
    np.testing.assert_allclose(found.scores, whole.scores)


def test_an_image_within_the_budget_is_seen_whole() -> None:
    image = decoded(scene(0, (SIDE, SIDE), 40))
    inner = Parts()
    assert objects(segment(TiledSegmenter(inner, TILES), image)) == objects(segment(Parts(), image))
    assert len(inner.views) == 1


def test_parts_are_seen_in_one_magnification() -> None:
    pixels = np.zeros((300, 300, 1), np.uint8)
    pixels[::7, ::7] = 255  # objects of one pixel: the larger is the better
    inner = Parts()
    found = segment(TiledSegmenter(inner, TILES), decoded(pixels))
    assert found.n_objects == 43 * 43
    assert inner.views[0].magnification == 1  # a look at some parts, which chooses
    assert {view.magnification for view in inner.views[-9:]} == {2.0}


@pytest.mark.parametrize("length", [60, 200, 290])
def test_an_object_larger_than_the_halo_is_whole_or_refused(length: int) -> None:
    pixels = np.zeros((300, 300, 1), np.uint8)
    pixels[150:158, 5 : 5 + length] = 255
    try:
        found = segment(TiledSegmenter(Parts(), TILES), decoded(pixels))
    except InputError as error:
        assert "tiles.halo" in error.detail
    else:
        assert objects(found) == objects(segment(Parts(), decoded(pixels)))


def test_an_object_that_no_part_continues_is_refused_with_both_numbers() -> None:
    class Blind(Parts):
        """Sees nothing in parts that begin right of the first one."""

        def finish(self, raw: np.ndarray, image: DecodedImage) -> Segmentation:
            return super().finish(raw if raw[0, 0] < 0.25 else np.zeros_like(raw), image)

    pixels = np.zeros((SIDE, 300, 1), np.uint8)
    pixels[0, 64:] = 90
    pixels[40:60, 30:250] = 255
    with pytest.raises(InputError, match=r"not seen whole.*rows 40 to 60.*halo is 32 pixels"):
        segment(TiledSegmenter(Blind(), TILES), decoded(pixels))


@pytest.fixture(scope="module")
def mosaic(shared_data: Path) -> np.ndarray:
    """(512, 512, 1): real fields of nuclei of one size, side by side."""
    with (shared_data / "nuclei" / "index.csv").open() as file:
        rows = [
            row["image_id"] for row in csv.DictReader(file)
            if (row["kind"], row["width"], row["height"]) == ("fluorescence", "256", "256")
            and row["split"] != "train"
        ]  # fmt: skip
    fields = []
    for name in rows[:4]:
        (path,) = (shared_data / "nuclei" / "images").glob(f"{name}.*")
        fields.append(np.asarray(Image.open(path).convert("L")))
    return np.concatenate([np.concatenate(fields[i : i + 2], 1) for i in (0, 2)])[..., None]


def test_real_nuclei_over_seams_are_those_of_the_whole(mosaic: np.ndarray) -> None:
    def found(**asked: object) -> Segmentation:
        model = resolve_model("unet-nuclei", "a test", precision="fp32", **asked)
        make = build_for_any_size if asked else build
        return segment(make(model.spec, model.weights_path), decoded(mosaic))

    whole = found()
    tiled = found(limits={"max_pixels": 1}, tiles={"side": 288, "halo": 64})
    overlaps = match(whole.label_image, tiled.label_image)
    same = int((overlaps.iou > 0.5).sum())
    assert whole.n_objects > 60
    assert same / (whole.n_objects + tiled.n_objects - same) > 0.95
    # Nothing is there twice: neighbours may share pixels of their borders, and no more.
    for label, own in tiled.own_masks.items():
        visible = np.count_nonzero(tiled.label_image == label)
        assert visible > 0.8 * np.count_nonzero(own.mask)


def test_what_cannot_look_at_parts_is_not_asked_to() -> None:
    assert resolve_model("classical", "a test").spec.tiles is None
    tiles = resolve_model("unet-nuclei", "a test", tiles={"halo": 256}).spec.tiles
    assert tiles == Tiles(side=1024, halo=256, max_image_pixels=1 << 31)
    assert resolve_model("unet-nuclei", "a test").spec.decoding.max_pixels == 1 << 31


@pytest.mark.parametrize("cut", [True, False])
def test_a_large_image_is_an_ordinary_member_where_it_can_be_cut(tmp_path: Path, cut: bool) -> None:
    images = tmp_path / "images"
    images.mkdir()
    for name, shape in (("large", (300, 290)), ("small", (100, 90))):
        Image.fromarray(scene(3, shape, 20)[..., 0]).save(images / f"{name}.png")
    inner = Parts()
    if cut:
        inner.spec = inner.spec.model_copy(update={"tiles": TILES})
    segmenter = TiledSegmenter(inner, TILES) if cut else inner
    files = create_store(tmp_path / "store")
    chunk = Chunk(inner.spec.spec_id, tuple(list_collection(str(images))))
    process_chunk(chunk, segmenter, files, "run")
    snapshot = Snapshot(files)
    large, small = snapshot.image_rows()
    assert small["status"] == "ok"
    if not cut:
        assert large["reason"] == "too_large"
        return
    assert large["status"] == "ok"
    whole = segment(Parts(), decoded(scene(3, (300, 290), 20)))
    np.testing.assert_array_equal(snapshot.label_image(large) > 0, whole.label_image > 0)
    assert large["n_objects"] == whole.n_objects == len(snapshot.objects_of(large))
