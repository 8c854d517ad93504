"""OpenVINO answers as PyTorch does, alone or in a batch; it sends nothing; int8 is asked for."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from segpipe.errors import SpecError, WeightsError
from segpipe.segmenters import catalog, devices
from segpipe.segmenters.quantisation import PREFIX, quantise, recorded_ranges
from segpipe.segmenters.unet_network import build_unet
from segpipe.segmenters.weights import (
    QuantisationRecord,
    load_tensors,
    read_header,
    save,
    sha256_file,
)
from segpipe.spec import ModelSpec, RunSpec, SegmentSpec, UNetOptions
from segpipe.training import Job, read_recipe, train
from segpipe.training.data import list_data, of_split, read_example
from segpipe.training.evaluate import evaluate, load
from segpipe.training.quantise import PrecisionLossError
from segpipe.training.quantise import quantise as quantise_file
from tests.annotated import DISCS, disc_folder, validation_images

openvino_missing = pytest.mark.skipif(
    not devices.has_openvino(), reason="OpenVINO is absent: pip install 'segpipe[openvino]'"
)
ARCHITECTURE = {"decoder_channels": [16, 8, 8, 8, 8], "outputs": 3}
PRECISIONS = ["fp32", "bf16", "int8"]
TOLERANCE = {"fp32": 1e-4, "bf16": 0.05, "int8": 0.08}
"""Of the mean absolute difference, in standard deviations of the answer."""


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """So small a network gains nothing from more, and loses much on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def fields(seed: int, n: int, height: int = 64, width: int = 96) -> torch.Tensor:
    return torch.rand(n, 3, height, width, generator=torch.Generator().manual_seed(seed))


def network() -> torch.nn.Module:
    """Random weights, and statistics of normalisation that fit them."""
    torch.manual_seed(5)
    built = build_unet(ARCHITECTURE)
    for module in built.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None  # the mean of what it sees
    with torch.no_grad():
        built(fields(1, 4))
    return built.eval()


def rounding_network() -> torch.nn.Module:
    with recorded_ranges(exact := network()) as ranges, torch.inference_mode():
        exact(fields(2, 4))
    return quantise(network(), ranges)


@pytest.fixture(scope="module")
def compiled() -> dict[str, Callable[[torch.Tensor], torch.Tensor]]:
    """By precision."""
    from segpipe.segmenters.openvino_network import compile_network

    model = ModelSpec(name="random", kind="unet", architecture=ARCHITECTURE)
    found = {}
    for precision in PRECISIONS:
        spec = SegmentSpec(
            model=model, options=UNetOptions(), backend="openvino", precision=precision
        )
        built = rounding_network() if precision == "int8" else network()
        found[precision] = compile_network(built, spec, 1)
    return found


@openvino_missing
@pytest.mark.parametrize("precision", PRECISIONS)
class TestCompiled:
    @pytest.mark.parametrize("shape", [(64, 96), (32, 32), (160, 64)])
    def test_it_answers_as_pytorch_does(self, compiled, precision: str, shape) -> None:
        planes = fields(3, 1, *shape)
        with torch.inference_mode():
            exact = (rounding_network() if precision == "int8" else network())(planes)
        difference = (compiled[precision](planes) - exact).abs().mean() / exact.std()
        assert difference < TOLERANCE[precision]

    def test_batch_mates_do_not_change_a_bit(self, compiled, precision: str) -> None:
        planes = fields(4, 4)
        together = compiled[precision](planes)
        for image, answer in zip(planes, together, strict=True):
            assert torch.equal(compiled[precision](image[None])[0], answer)

    def test_an_answer_is_kept_when_the_next_comes(self, compiled, precision: str) -> None:
        first = compiled[precision](fields(3, 1))
        before = first.clone()
        compiled[precision](fields(4, 1))
        assert torch.equal(first, before)


def test_quantised_convolutions_round_to_few_values() -> None:
    exact, rounded = network(), rounding_network()
    with torch.inference_mode():
        wanted, found = exact(fields(3, 1)), rounded(fields(3, 1))
    assert 0 < (found - wanted).abs().mean() < 0.2 * wanted.std()
    weights = rounded.get_submodule("decoder.blocks.4.conv2.0").weight
    assert all(len(torch.unique(one)) <= 255 for one in weights)


def test_ranges_must_be_those_of_the_network() -> None:
    with recorded_ranges(exact := network()) as ranges, torch.inference_mode():
        exact(fields(2, 1))
    name, extent = ranges.popitem()
    with pytest.raises(WeightsError, match=name):
        quantise(network(), ranges)
    with pytest.raises(WeightsError, match=name):
        quantise(network(), {**ranges, name: extent[:, 1:]})


def run(model: object, **values: object) -> RunSpec:
    return RunSpec(source="in", store="out", model=str(model), **values)


@openvino_missing
@pytest.mark.parametrize(
    ("model", "values", "message"),
    [
        ("mask-rcnn-nuclei", {"backend": "openvino"}, "is a mask_rcnn"),
        ("classical", {"backend": "openvino"}, "is a classical"),
        ("unet-nuclei", {"backend": "openvino", "device": "cuda"}, "runs on a CPU"),
        ("unet-nuclei", {"precision": "int8"}, "is for backend = 'openvino'"),
        ("unet-nuclei", {"backend": "openvino", "precision": "int8"}, "segpipe quantize"),
    ],
)
def test_what_does_not_fit_together_is_refused(model: str, values: dict, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        catalog.resolve(run(model, **values))


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "has_openvino", lambda: False)
    with pytest.raises(SpecError, match=r"pip install 'segpipe\[openvino\]'"):
        catalog.resolve(run("unet-nuclei", backend="openvino"))


SILENT = """
import sys
heard = []
def hear(event, details):
    known = "socket.connect", "socket.getaddrinfo", "urllib", "subprocess", "os.fork"
    if event.startswith(known):
        heard.append((event, details))
sys.addaudithook(hear)
import torch
from segpipe.segmenters.openvino_network import compile_network
from segpipe.segmenters.unet_network import build_unet
from segpipe.spec import ModelSpec, SegmentSpec, UNetOptions
heard.clear()  # what the import of torch does is not ours
architecture = {"decoder_channels": [16, 8, 8, 8, 8], "outputs": 3}
model = ModelSpec(name="x", kind="unet")
spec = SegmentSpec(model=model, options=UNetOptions(), backend="openvino")
compile_network(build_unet(architecture).eval(), spec, 1)(torch.zeros(1, 3, 64, 64))
assert "openvino" in sys.modules
print(heard, [name for name in sys.modules if "openvino_telemetry" in name])
"""


@openvino_missing
def test_nothing_is_sent_and_nothing_is_left_at_home(tmp_path: Path) -> None:
    """OpenVINO by itself reports that it was imported, unless it believes to be in CI."""
    known = {"PATH", "LD_LIBRARY_PATH", "TMPDIR", "PYTHONPATH"}
    environment = {name: value for name, value in os.environ.items() if name in known}
    done = subprocess.run(
        [sys.executable, "-c", SILENT],
        env={**environment, "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[] []"
    assert not (tmp_path / "intel").exists()


@pytest.fixture(scope="module")
def discs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return disc_folder(tmp_path_factory.mktemp("discs"))


@pytest.fixture(scope="module")
def trained(discs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    (folder / "recipe.toml").write_text(DISCS)
    recipe, text = read_recipe(folder / "recipe.toml")
    out = folder / "discs.safetensors"
    train(Job(recipe, text, discs, out, workers=0), lambda progress: None)
    return out


@openvino_missing
def test_a_quantised_file_runs_in_every_precision(
    trained: Path, discs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("segpipe.training.quantise.MAX_LOSS", 1.0)
    out = tmp_path / "discs-int8.safetensors"
    done = quantise_file(trained, discs, out, images=3, say=lambda text: None)
    header = read_header(out)
    assert header.quantisation == done.record
    assert header.model_copy(update={"quantisation": None}) == read_header(trained)
    assert done.record.images == 3
    assert done.record.metrics.keys() == {"all/fp32", "all/int8", "disc/fp32", "disc/int8"}
    recipe, _ = read_recipe(trained.with_name("recipe.toml"))
    data = of_split(list_data(discs, recipe.data, recipe.classes), "val")
    examples = [read_example(one) for one in data]
    for precision, backend in (("fp32", "torch"), ("int8", "openvino")):
        segmenter = load(out, "cpu", precision, backend=backend)
        assert (segmenter.spec.precision, segmenter.spec.backend) == (precision, backend)
        assert evaluate(segmenter, examples).groups["all"]["images"] == 2


@openvino_missing
def test_a_file_that_is_worse_in_8_bits_is_not_written(
    trained: Path, discs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalog, "MAX_LOSS", -1.0)
    out = tmp_path / "worse.safetensors"
    with pytest.raises(PrecisionLossError, match=r"ap50_mean is .* in fp32 and .* in int8"):
        quantise_file(trained, discs, out, images=1, say=lambda text: None)
    assert list(tmp_path.iterdir()) == []


@openvino_missing
def test_only_a_trained_unet_can_be_quantised(discs: Path, tmp_path: Path) -> None:
    detector = catalog.SHIPPED / "mask-rcnn-nuclei.safetensors"
    with pytest.raises(SpecError, match="only U-Nets"):
        quantise_file(detector, discs, tmp_path / "x.safetensors")


@openvino_missing
def test_real_nuclei_are_found_as_well_in_bf16(shared_data: Path) -> None:
    examples = []
    for example in validation_images(shared_data / "nuclei", "unet-nuclei"):
        if example.labels.size < 100_000 and example.subgroup == "fluorescence":
            examples.append(example)
        if len(examples) == 4:
            break
    weights = catalog.SHIPPED / "unet-nuclei.safetensors"
    exact = evaluate(load(weights, "cpu", "fp32"), examples).groups["all"]
    found = evaluate(load(weights, "cpu", "bf16", backend="openvino"), examples).groups["all"]
    for name in ("ap50_mean", "ap75_mean"):
        np.testing.assert_allclose(found[name], exact[name], atol=0.02)


def test_a_header_without_its_ranges_is_refused(tmp_path: Path) -> None:
    """And one with ranges, in fp32, is a weights file as any other."""
    shipped = catalog.SHIPPED / "unet-nuclei.safetensors"
    record = QuantisationRecord(
        data="d", data_sha256="0" * 64, images=1, code_version="0", finished="2026-01-01"
    )
    header = read_header(shipped).model_copy(update={"quantisation": record})
    tensors = load_tensors(shipped)
    path = tmp_path / "x.safetensors"
    save(path, tensors | {f"{PREFIX}x": torch.zeros(2, 1)}, header)
    load(path, "cpu", "fp32")
    assert catalog.resolve(run(path)).spec.model.weights_sha256 == sha256_file(path)
    if devices.has_openvino():
        with pytest.raises(WeightsError, match="input ranges"):
            load(path, "cpu", "int8", backend="openvino")
