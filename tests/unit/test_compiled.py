"""The backend `compiled` answers as the plain one does; it is asked for, and says what it needs."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from segpipe.errors import SpecError
from segpipe.segmenters import catalog
from segpipe.segmenters.runtime import torch_compiled
from segpipe.spec import RunSpec


def network() -> nn.Sequential:
    """As a U-Net is made of; a whole one takes half a minute to compile."""
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 2, 1)
    made = nn.Sequential(*layers).eval()
    nn.init.uniform_(layers[1].running_var, 0.5, 2)
    return made


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 0.02)])
def test_it_answers_as_pytorch_does(dtype: torch.dtype, tolerance: float) -> None:
    planes = torch.randn(1, 3, 64, 96)
    run = torch_compiled(network(), dtype)
    with torch.inference_mode():
        expected, found = network()(planes), run(planes).float()
    assert (found - expected).norm() < tolerance * expected.norm()


def test_it_is_another_spec_and_takes_one_image_at_a_time() -> None:
    plain, other = (
        catalog.resolve(RunSpec(source="-", store="-", backend=backend, device="cpu")).spec
        for backend in ("torch", "compiled")
    )
    assert plain.spec_id != other.spec_id
    assert other.batch_of((64, 64)) == 1


def test_what_is_missing_is_told_before_anything_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(SpecError, match="no-such-compiler"):
        catalog.resolve(RunSpec(source="-", store="-", backend="compiled"))


def test_a_detector_is_refused() -> None:
    with pytest.raises(SpecError, match="runs U-Nets"):
        catalog.resolve(RunSpec(source="-", store="-", model="classical", backend="compiled"))
