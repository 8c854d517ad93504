"""From a model's name to a spec with every default written out, and to a segmenter."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torchvision.models import detection

from segpipe.errors import SpecError, WeightsError
from segpipe.segmenters import catalog
from segpipe.segmenters.build import build
from segpipe.segmenters.published import COCO_CLASSES, PUBLISHED
from segpipe.segmenters.weights import (
    TileRule,
    TrainingRecord,
    WeightsHeader,
    save,
    sha256_file,
)
from segpipe.spec import (
    DetectorOptions,
    PercentileScaling,
    Preprocess,
    RunSpec,
    UNetOptions,
)


def run(model: str, **values) -> RunSpec:
    return RunSpec(source="in", store="out", model=model, **{"device": "cpu", **values})


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A weights file whose header describes a U-Net."""
    return write(tmp_path / "mine.safetensors")


def write(path: Path, **changes) -> Path:
    header = {
        "name": "mine",
        "kind": "unet",
        "task": "instances",
        "description": "for a test",
        "licence": "CC0-1.0",
        "architecture": {"outputs": 3},
        "classes": ("background", "cell"),
        "preprocess": Preprocess(scaling=PercentileScaling()),
        "postprocess": UNetOptions(min_area=77),
        "tile": TileRule(multiple_of=32, max_side=4096),
    }
    save(path, {"x": torch.zeros(1)}, WeightsHeader(**{**header, **changes}))
    return path


def test_classical_has_no_weights() -> None:
    resolved = catalog.resolve(run("classical", options={"min_area": 5}, device="auto"))
    assert resolved.weights_path is None
    assert resolved.spec.model.weights_sha256 is None
    assert resolved.spec.options.min_area == 5
    assert (resolved.spec.device, resolved.spec.precision) == ("cpu", "fp32")
    assert resolved.spec.batch_images == 1


def test_header_gives_the_defaults_and_the_run_overrides_them(weights: Path) -> None:
    plain = catalog.resolve(run(str(weights))).spec
    changed = catalog.resolve(run(str(weights), options={"min_depth": 0.7})).spec
    assert plain.options == UNetOptions(min_area=77)
    assert changed.options == UNetOptions(min_area=77, min_depth=0.7)
    assert plain.model.weights_sha256 == sha256_file(weights)
    assert plain.model.classes == ("background", "cell")
    assert plain.precision == "fp32"
    assert [plain.batch_of(shape) for shape in ((64, 64), (256, 256), (2000, 9))] == [16, 4, 14]
    assert plain.batch_of((2000, 2000)) == 1
    assert plain.spec_id != changed.spec_id


def test_where_results_go_does_not_change_the_spec(weights: Path) -> None:
    one = catalog.resolve(run(str(weights)))
    other = catalog.resolve(run(str(weights), workers=3, chunk_images=7, max_failed=0.5))
    assert one == other


@pytest.mark.parametrize("options", [{"score_treshold": 0.5}, {"kind": "unet"}, {"min_area": 0}])
def test_bad_option_is_named(options: dict) -> None:
    with pytest.raises(SpecError, match=next(iter(options))):
        catalog.resolve(run("classical", options=options))


def test_unknown_name_lists_the_models() -> None:
    with pytest.raises(SpecError) as refused:
        catalog.resolve(run("mask-rcn"))
    assert "mask-rcn'" in str(refused.value)
    assert all(card.name in str(refused.value) for card in catalog.models())


@pytest.mark.parametrize("name", ["weights.pth", "weights.pt", "A.CKPT"])
def test_pickle_is_refused_unread(name: str) -> None:
    with pytest.raises(WeightsError, match="pickle"):
        catalog.resolve(run(name))


def test_pickle_under_another_name_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    torch.save({"x": torch.zeros(1)}, path)
    with pytest.raises(WeightsError, match="pickle"):
        catalog.resolve(run(str(path)))


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"none\.safetensors"):
        catalog.resolve(run(str(tmp_path / "none.safetensors")))


def test_header_that_contradicts_itself_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "w.safetensors", postprocess=DetectorOptions())
    with pytest.raises(WeightsError, match="unet with options for 'detector'"):
        catalog.resolve(run(str(path)))


def test_detector_takes_one_image_on_a_cpu(tmp_path: Path) -> None:
    path = write(tmp_path / "w.safetensors", kind="mask_rcnn", postprocess=DetectorOptions())
    assert catalog.resolve(run(str(path))).spec.batch_images == 1
    with pytest.raises(SpecError, match="batch_images = 4"):
        catalog.resolve(run(str(path), batch_images=4))


def test_batch_and_precision_are_as_asked(weights: Path) -> None:
    spec = catalog.resolve(run(str(weights), batch_images=2, precision="bf16")).spec
    assert (spec.batch_of((2000, 2000)), spec.precision) == (2, "bf16")


@pytest.mark.parametrize(
    ("rounded", "expected"),
    [
        ({"ap50_mean": 0.897, "ap75_mean": 0.7}, "bf16"),
        ({"ap50_mean": 0.95, "ap75_mean": 0.697}, "bf16"),
        ({"ap50_mean": 0.9, "ap75_mean": 0.696}, "fp32"),
        ({"count": 3.0}, "fp32"),
        ({}, "fp32"),
    ],
    ids=["just as good", "better", "worse in one", "of no metric that counts", "not measured"],
)
def test_bf16_is_chosen_for_models_that_are_as_good_in_it(
    rounded: dict, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    metrics = {"all/fp32": {"ap50_mean": 0.9, "ap75_mean": 0.7}, "all/bf16": rounded}
    training = TrainingRecord(
        data="d", data_sha256="0" * 64, images=1, recipe="", recipe_sha256="0" * 64, seed=0,
        steps=1, metrics=metrics, code_version="0", finished="2026-01-01",
    )  # fmt: skip
    path = write(tmp_path / "w.safetensors", training=training)
    monkeypatch.setattr(catalog, "cpu_has_bf16", lambda: True)
    assert catalog.resolve(run(str(path))).spec.precision == expected
    assert catalog.resolve(run(str(path), precision="fp32")).spec.precision == "fp32"
    monkeypatch.setattr(catalog, "cpu_has_bf16", lambda: False)
    assert catalog.resolve(run(str(path))).spec.precision == "fp32"


def test_every_shipped_model_holds_in_bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalog, "cpu_has_bf16", lambda: True)
    names = [card.name for card in catalog.models() if card.available and card.weights]
    shipped = [name for name in names if (catalog.SHIPPED / f"{name}.safetensors").exists()]
    assert {catalog.resolve(run(name)).spec.precision for name in shipped} == {"bf16"}


def test_device_is_what_there_is(weights: Path) -> None:
    if torch.cuda.is_available():
        spec = catalog.resolve(run(str(weights), device="auto")).spec
        assert (spec.device, spec.precision, spec.batch_images) == ("cuda", "fp32", 32)
    else:
        spec = catalog.resolve(run(str(weights), device="auto")).spec
        assert (spec.device, spec.precision) == ("cpu", "fp32")
        with pytest.raises(SpecError, match="no CUDA device"):
            catalog.resolve(run(str(weights), device="cuda"))


@pytest.mark.parametrize("values", [{"device": "cuda"}, {"precision": "bf16"}])
def test_classical_cannot_use_a_device(values: dict) -> None:
    with pytest.raises(SpecError, match="classical"):
        catalog.resolve(run("classical", **values))


def test_published_weights_are_those_of_torchvision() -> None:
    theirs = {
        "mask-rcnn-coco": detection.MaskRCNN_ResNet50_FPN_Weights.COCO_V1,
        "mask-rcnn-coco-v2": detection.MaskRCNN_ResNet50_FPN_V2_Weights.COCO_V1,
        "faster-rcnn-coco": detection.FasterRCNN_ResNet50_FPN_Weights.COCO_V1,
        "faster-rcnn-coco-v2": detection.FasterRCNN_ResNet50_FPN_V2_Weights.COCO_V1,
    }
    assert {weights.name for weights in PUBLISHED} == set(theirs)
    for ours in PUBLISHED:
        published = theirs[ours.name]
        megabytes = published.meta["_file_size"] * 2**20
        assert ours.url == published.url
        assert ours.url.endswith(f"-{ours.sha256_prefix}.pth")
        assert megabytes < ours.max_bytes < 1.01 * megabytes
        assert list(COCO_CLASSES[1:]) == published.meta["categories"][1:]


def test_cards_are_complete_and_names_unique() -> None:
    cards = catalog.models()
    assert len({card.name for card in cards}) == len(cards)
    for card in cards:
        assert card.classes
        assert card.task in {"instances", "semantic", "boxes"}
        assert card.kind == "classical" or (card.weights and card.size_bytes and card.licence)


def test_listing_models_loads_no_network_code() -> None:
    code = (
        "import sys; from segpipe.segmenters.catalog import models; models();"
        "sys.exit(any(name in sys.modules for name in ('torch', 'skimage', 'numba')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_build_refuses_other_bytes_than_those_of_the_spec(weights: Path) -> None:
    spec = catalog.resolve(run(str(weights))).spec
    write(weights, licence="another")
    with pytest.raises(WeightsError, match="the file has changed"):
        build(spec, weights)
    with pytest.raises(WeightsError, match="none is given"):
        build(spec, None)


def test_build_refuses_tensors_of_another_network(tmp_path: Path) -> None:
    path = write(tmp_path / "w.safetensors")
    with pytest.raises(WeightsError, match="not the tensors of its architecture"):
        build(catalog.resolve(run(str(path))).spec, path)


def test_build_sets_the_threads_it_is_given(weights: Path) -> None:
    before = torch.get_num_threads()
    try:
        build(catalog.resolve(run("classical")).spec, None, threads=before + 1)
        assert torch.get_num_threads() == before
        with pytest.raises(WeightsError):
            build(catalog.resolve(run(str(weights))).spec, weights, threads=before + 1)
        assert torch.get_num_threads() == before + 1
    finally:
        torch.set_num_threads(before)
