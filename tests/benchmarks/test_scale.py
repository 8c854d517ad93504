"""`segpipe bench scale`: what it prints; how long anything takes is not tested."""

from __future__ import annotations

import json

from typer.testing import CliRunner

from segpipe.cli.main import app


def test_each_size_is_measured_and_then_found_done(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "prefect"))
    done = CliRunner().invoke(app, ["bench", "scale", "--images", "70", "--side", "32", "--json"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    (size,) = found["sizes"]
    assert (size["images"], size["commits"], size["growth"]) == (70, 2, None)
    assert size["objects"] >= 70
    assert size["bytes_per_object"] * size["objects"] == size["bytes"]
    # Each chunk: a commit, two parts, a shard of masks for 32 images and their three descriptions.
    assert size["files"] >= 2 * 6
    assert min(size["peak_mb"].values()) > 10
    assert 0 < size["seconds"]["resume_run"] < size["seconds"]["resume_whole_command"]
    assert found["conditions"]["cores"] >= 1
