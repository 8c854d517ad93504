"""What is scaled on the device is, bit for bit, what is scaled on the host."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from segpipe.segmenters.preprocess import to_planes, to_scalable
from segpipe.segmenters.published import IMAGENET
from segpipe.segmenters.transfer import to_device, to_host
from segpipe.spec import PercentileScaling, Preprocess

RULES = {"percentile": Preprocess(scaling=PercentileScaling()), "range": IMAGENET}
DTYPES = ["uint8", "uint16", "uint32", "int16", "int32", "float32", "float64", ">u2", ">f4"]
CPU = torch.device("cpu")


def noise(
    dtype: str, channels: int, seed: int = 0, shape: tuple[int, int] = (41, 70)
) -> np.ndarray:
    values = np.random.default_rng(seed).gamma(2, 30, (*shape, channels))
    return values.astype(dtype)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("dtype", DTYPES)
def test_scaling_on_the_device_is_the_rule_of_training(
    dtype: str, channels: int, rule: str
) -> None:
    batch = [noise(dtype, channels, seed) for seed in range(3)]
    planes = to_device([to_scalable(pixels, RULES[rule]) for pixels in batch], CPU)
    assert planes.is_contiguous(memory_format=torch.channels_last)
    expected = np.stack([to_planes(pixels, RULES[rule]) for pixels in batch])
    assert np.array_equal(planes.numpy(), expected)


@pytest.mark.parametrize("shape", [(1, 1), (3, 64), (64, 33), (64, 64)])
def test_an_image_is_mirrored_up_to_the_stride(shape: tuple[int, int]) -> None:
    pixels = noise("uint8", 3, shape=shape)
    (planes,) = to_device([to_scalable(pixels, IMAGENET, 32)], CPU)
    down, right = (-side % 32 for side in shape)
    expected = np.pad(to_planes(pixels, IMAGENET), ((0, 0), (0, down), (0, right)), mode="reflect")
    assert np.array_equal(planes.numpy(), expected)


def test_an_image_of_one_value_is_all_background() -> None:
    planes = to_device([to_scalable(np.full((8, 8, 1), 7, np.uint8), RULES["percentile"])], CPU)
    assert not planes.any()


def test_answers_come_back_as_float32() -> None:
    answers = torch.randn(2, 3, 5, 4).to(torch.bfloat16, memory_format=torch.channels_last)
    found = to_host(answers)
    assert found.dtype == np.float32
    assert found.flags.c_contiguous
    assert np.array_equal(found, answers.float().numpy())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_gives_what_the_cpu_gives() -> None:
    batch = [to_scalable(noise("uint16", 1, seed), RULES["percentile"]) for seed in range(3)]
    found = to_host(to_device(batch, torch.device("cuda")))
    np.testing.assert_allclose(found, to_host(to_device(batch, CPU)), rtol=1e-6, atol=1e-6)
