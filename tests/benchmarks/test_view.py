"""`segpipe bench view` measures what it says, at a size that takes seconds."""

from __future__ import annotations

import json

from typer.testing import CliRunner

from segpipe.cli.main import app


def test_many_objects() -> None:
    done = CliRunner().invoke(
        app, ["bench", "view", "--objects", "7000", "--rounds", "1", "--json"]
    )
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["objects"] == 12_800
    assert len(told["seconds"]) == 16
    assert all(seconds > 0 for seconds in told["seconds"].values())


def test_a_large_image() -> None:
    done = CliRunner().invoke(app, ["bench", "view", "--side", "1300", "--rounds", "1", "--json"])
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["objects"] > 100
    assert set(told["first"]) == set(told["tile"]) == {"pixels", "masks", "outlines"}
    shown = CliRunner().invoke(app, ["bench", "view", "--side", "1300", "--rounds", "1"])
    assert f"1,300 x 1,300 pixels, {told['objects']:,} objects" in shown.stdout
