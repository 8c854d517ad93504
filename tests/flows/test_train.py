"""The training flow against a real Prefect server: it trains, reports, and goes on if stopped."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from pathlib import Path

from segpipe.segmenters.weights import read_header
from tests.annotated import DISCS, disc_folder

PROGRAM = """
import sys
from segpipe.flows.train import TrainSpec, train
recipe, data, out = sys.argv[1:]
print(sorted(train(TrainSpec(recipe=recipe, data=data, out=out, workers=0, device="cpu"))))
"""


def test_it_trains_and_leaves_a_report(
    environment: dict[str, str], prefect_api: str, tmp_path: Path
) -> None:
    (tmp_path / "discs.toml").write_text(DISCS)
    data, out = disc_folder(tmp_path / "data"), tmp_path / "discs.safetensors"
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path / "discs.toml"), str(data), str(out)],
        env={**environment, "PREFECT_API_URL": prefect_api, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "['all/bf16', 'all/fp32', 'disc/bf16', 'disc/fp32']"
    assert read_header(out).name == "discs"
    wanted = {"artifacts": {"key": {"any_": ["segpipe-training"]}}}
    request = urllib.request.Request(
        f"{prefect_api}/artifacts/filter",
        json.dumps(wanted).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request) as answer:
        (artifact,) = json.load(answer)
    assert "disc/fp32" in artifact["data"]
