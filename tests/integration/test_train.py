"""`segpipe train`, as a person calls it: train, run the file, measure; alone and with torchrun."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from segpipe.segmenters.weights import read_header
from tests.annotated import DISCS, disc_folder

SEGPIPE = [sys.executable, "-m", "segpipe"]


def call(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [*map(str, arguments)]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("home")
    disc_folder(home / "data")
    (home / "discs.toml").write_text(DISCS)
    return home


@pytest.fixture(scope="module")
def trained(home: Path) -> subprocess.CompletedProcess[str]:
    return call(*SEGPIPE, "train", "discs.toml", "--data", "data", cwd=home)


def test_a_trained_file_is_what_run_takes(
    home: Path, trained: subprocess.CompletedProcess[str]
) -> None:
    assert trained.returncode == 0, trained.stderr
    assert trained.stdout.startswith("discs.safetensors  discs")
    assert "disc/fp32" in trained.stdout
    assert "discs.training/curves.png" in trained.stdout
    assert "step 12 of 12" in trained.stderr
    assert "left" in trained.stderr
    done = call(
        *SEGPIPE, "run", "data/images", "--store", "store", "--model", "discs.safetensors",
        "--json", cwd=home,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["ok"] == 6
    scores = call(*SEGPIPE, "eval", "store", "--truth", "data/labels", "--json", cwd=home)
    assert scores.returncode == 0, scores.stderr
    assert json.loads(scores.stdout)["n_images"] == 6


def test_wrong_arguments_are_told_and_exit_with_2(home: Path) -> None:
    absent = call(*SEGPIPE, "train", "nothing.toml", "--data", "data", cwd=home)
    assert absent.returncode == 2
    assert "unet-nuclei" in absent.stderr
    empty = call(*SEGPIPE, "train", "discs.toml", "--data", "store", "--out", "x", cwd=home)
    assert empty.returncode == 2
    assert "store" in empty.stderr


def test_two_processes_learn_what_one_learns(
    home: Path, trained: subprocess.CompletedProcess[str]
) -> None:
    """Both see halves of each batch; batch normalisation makes passes of halves comparable."""
    text = DISCS.replace("batch = 4", "batch = 4\nmicro_batch = 2").replace(
        "every = 3", "every = 1"
    )
    (home / "halves.toml").write_text(text.replace("steps = 12", "steps = 2"))
    both = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "segpipe"]
    losses = []
    for name, program in (("one", SEGPIPE), ("two", both)):
        out = f"{name}.safetensors"
        done = call(
            *program, "train", "halves.toml", "--data", "data", "--out", out, "--workers", "0",
            "--device", "cpu", cwd=home,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        log = pq.read_table(home / f"{name}.training" / "log.parquet").to_pylist()
        losses.append([x["value"] for x in log if (x["split"], x["name"]) == ("train", "loss")])
        assert read_header(home / out).training.steps == 2  # type: ignore[union-attr]
    assert losses[0][0] == pytest.approx(losses[1][0], rel=1e-5)
    assert losses[0][1] == pytest.approx(losses[1][1], rel=0.02)
