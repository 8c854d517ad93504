"""The backend `compiled` answers as the plain one does; it is asked for, and says what it needs."""

from __future__ import annotations

import pytest
import torch

from segpipe.errors import SpecError
from segpipe.segmenters import catalog
from segpipe.segmenters.runtime import by_backend
from segpipe.segmenters.unet_network import build_unet
from segpipe.spec import ModelSpec, RunSpec, SegmentSpec, UNetOptions


def network() -> torch.nn.Module:
    torch.manual_seed(0)
    return build_unet({"decoder_channels": [16, 8, 8, 8, 8], "outputs": 3}).eval()


def spec(backend: str) -> SegmentSpec:
    return SegmentSpec(
        model=ModelSpec(name="random", kind="unet"), options=UNetOptions(), backend=backend
    )


@pytest.fixture(scope="module")
def compiled() -> object:
    return by_backend(network(), spec("compiled"))


def test_it_answers_as_pytorch_does(compiled) -> None:
    planes = torch.randn(1, 3, 64, 96)
    with torch.inference_mode():
        expected = by_backend(network(), spec("torch"))(planes)
        found = compiled(planes)
    assert (found - expected).norm() < 1e-4 * expected.norm()


def test_it_is_another_spec_and_takes_one_image_at_a_time() -> None:
    plain, compiled = (
        catalog.resolve(RunSpec(source="-", store="-", backend=backend, device="cpu")).spec
        for backend in ("torch", "compiled")
    )
    assert plain.spec_id != compiled.spec_id
    assert compiled.batch_of((64, 64)) == 1


def test_what_is_missing_is_told_before_anything_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(SpecError, match="no-such-compiler"):
        catalog.resolve(RunSpec(source="-", store="-", backend="compiled"))


def test_a_detector_is_refused() -> None:
    with pytest.raises(SpecError, match="runs U-Nets"):
        catalog.resolve(RunSpec(source="-", store="-", model="classical", backend="compiled"))
