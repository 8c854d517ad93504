"""`segpipe bench forward` and `compare`: what they print; how fast anything is is not tested."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from segpipe.bench.conditions import describe_conditions
from segpipe.bench.forward import Question, measure
from segpipe.bench.networks import RESNET34_UNET
from segpipe.cli.main import app


def test_each_way_to_run_a_network_is_measured_against_the_machine() -> None:
    question = Question(
        models=(RESNET34_UNET, "mask-rcnn-nuclei"),
        precisions=("fp32",),
        shape=(64, 64),
        images=1,
        variants=("eager", "traced", "frozen"),
        device="cpu",
        threads=1,
        rounds=1,
    )
    answer = measure(question)
    found = answer.to_dict(describe_conditions())
    assert set(found["networks"]) == {
        "resnet34-unet fp32 eager",
        "resnet34-unet fp32 traced",
        "resnet34-unet fp32 frozen",
        "mask-rcnn-nuclei fp32 segpipe",
        "mask-rcnn-nuclei fp32 eager",
        "mask-rcnn-nuclei fp32 frozen",
    }
    peak = found["peak_gflops"]["fp32"]["convolution"]
    for speed in found["networks"].values():
        assert speed["share"] == pytest.approx(speed["gflops"] / peak)
        gflops = speed["images_per_second"] * speed["gflop_per_image"]
        assert speed["gflops"] == pytest.approx(gflops)
    # 15.7 at 256 x 256: the published network, not a smaller one.
    assert found["networks"]["resnet34-unet fp32 eager"]["gflop_per_image"] == pytest.approx(
        15.7 / 16, rel=0.02
    )
    assert "of the peak" in answer.to_text(describe_conditions())


def compare(before: Path, after: Path, *options: str) -> str:
    done = CliRunner().invoke(app, ["bench", "compare", str(before), str(after), *options])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.stdout


def write(path: Path, **content: object) -> Path:
    path.write_text(json.dumps(content))
    return path


def test_two_results_are_compared_figure_by_figure(tmp_path: Path) -> None:
    before = write(
        tmp_path / "a.json",
        benchmark="x",
        speed={"all": 2.0, "gone": 1},
        names=["not", "a", "figure"],
        conditions={"packages": {"torch": "1"}, "cores": 2},
    )
    after = write(
        tmp_path / "b.json",
        benchmark="x",
        speed={"all": 3.0, "new": 0},
        conditions={"packages": {"torch": "2"}, "cores": 2},
    )
    found = json.loads(compare(before, after, "--json"))
    assert found["figures"] == {
        "speed.all": {"before": 2.0, "after": 3.0, "ratio": 1.5},
        "speed.gone": {"before": 1, "after": None, "ratio": None},
        "speed.new": {"before": None, "after": 0, "ratio": None},
    }
    assert found["changed"] == {"packages.torch": ["1", "2"]}
    text = compare(before, after)
    assert "1.5" in text
    assert "packages.torch: 1 -> 2" in text


def test_results_of_two_benchmarks_are_not_compared(tmp_path: Path) -> None:
    one, other = (write(tmp_path / f"{name}.json", benchmark=name) for name in ("x", "y"))
    with pytest.raises(Exception, match="two benchmarks, 'x' and 'y'"):
        compare(one, other)
    with pytest.raises(Exception, match="no result of a benchmark"):
        compare(one, write(tmp_path / "z.json", speed=1))
