"""`segpipe bench regions` measures what it says, at a size that takes seconds."""

from __future__ import annotations

import json

from typer.testing import CliRunner

from segpipe.cli.main import app


def test_regions_of_each_format() -> None:
    done = CliRunner().invoke(
        app, ["bench", "regions", "--side", "2048", "--rounds", "2", "--json"]
    )
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout.splitlines()[-1])
    assert (told["side"], told["rounds"]) == (2048, 2)
    names = [one["format"] for one in told["formats"]]
    assert len(set(names)) == len(names) == 10
    for one in told["formats"]:
        assert one["bytes"] > 0
        assert 0 < one["region"] <= one["worst"]
        assert one["first"] > 0
