"""Every shipped weights file does what its header claims, on images that it was not trained on."""

from __future__ import annotations

from pathlib import Path

import pytest

from segpipe.errors import SpecError
from segpipe.segmenters.build import build
from segpipe.segmenters.catalog import SHIPPED, resolve
from segpipe.segmenters.weights import load_tensors, read_header, save, sha256_file
from segpipe.spec import RunSpec
from segpipe.training.evaluate import evaluate, load, segment
from segpipe.training.recipe import shipped_recipes
from tests.annotated import validation_images

SHIPPED_FILES = sorted(path.stem for path in SHIPPED.glob("*.safetensors"))


def test_all_together_are_small() -> None:
    files = list(SHIPPED.glob("*.safetensors"))
    assert {"unet-nuclei", "mask-rcnn-nuclei", "unet-oct-fluid"} <= set(SHIPPED_FILES)
    assert sum(path.stat().st_size for path in files) < 80_000_000
    assert len({sha256_file(path) for path in files}) == len(files)


@pytest.mark.parametrize("name", SHIPPED_FILES)
def test_a_header_says_where_the_weights_come_from(name: str) -> None:
    header = read_header(SHIPPED / f"{name}.safetensors")
    assert header.name == name
    assert header.licence
    record = header.training
    assert record is not None
    assert record.metrics
    assert record.recipe == shipped_recipes()[name].read_text("utf-8")


@pytest.mark.parametrize("classes", [("background",), ("background", "one", "two", "three")])
@pytest.mark.parametrize("name", SHIPPED_FILES)
def test_classes_that_are_not_those_of_the_tensors_are_refused(
    name: str, classes: tuple[str, ...], tmp_path: Path
) -> None:
    shipped, wrong = SHIPPED / f"{name}.safetensors", tmp_path / "wrong.safetensors"
    header = read_header(shipped).model_copy(update={"classes": classes})
    save(wrong, load_tensors(shipped), header)

    def use() -> None:
        model = resolve(RunSpec(source="images", store="store", model=str(wrong)))
        build(model.spec, model.weights_path, 1)

    with pytest.raises(SpecError, match=r"wrong\.safetensors"):
        use()


def test_fluid_is_found_in_scans_of_unseen_subjects(shared_data: Path) -> None:
    """Four scans with much fluid; the header's number is of all 22."""
    scans = [
        one
        for one in validation_images(shared_data / "oct_dme", "unet-oct-fluid")
        if one.classes.sum() > 3000
    ]
    assert {one.subgroup for one in scans} == {"7", "8"}
    segmenter = load(SHIPPED / "unet-oct-fluid.safetensors", "cpu", "bf16")
    scores = evaluate(segmenter, scans)
    assert scores.groups["all"]["fluid_dice"] > 0.7
    header = read_header(SHIPPED / "unet-oct-fluid.safetensors")
    assert "medical device" in header.notice
    assert header.training is not None
    assert header.training.metrics["all/fp32"]["dice"] > 0.6


def test_a_detector_finds_hundreds_of_objects_without_reaching_its_limit(
    shared_data: Path,
) -> None:
    images = [
        one
        for one in validation_images(shared_data / "nuclei", "mask-rcnn-nuclei")
        if one.subgroup == "fluorescence" and one.labels.size < 100_000
    ]
    densest = max(images, key=lambda one: len(one.class_ids))
    segmenter = load(SHIPPED / "mask-rcnn-nuclei.safetensors", "cpu", "bf16")
    found = segment(segmenter, densest)
    assert not found.saturated
    assert found.n_objects > 0.7 * (len(densest.class_ids) - 1)
    scores = evaluate(segmenter, images[:6])
    assert scores.groups["fluorescence"]["ap50_mean"] > 0.7
