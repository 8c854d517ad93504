"""`segpipe bench seams`: what it prints, and that nothing is lost; times are not tested."""

from __future__ import annotations

import json

from typer.testing import CliRunner

from segpipe.cli.main import app


def test_every_object_of_a_slide_comes_once() -> None:
    asked = ["bench", "seams", "--objects", "2000", "--objects", "6000", "--core", "1024"]
    done = CliRunner().invoke(app, [*asked, "--json"])
    assert done.exit_code == 0, done.output
    small, large = json.loads(done.stdout)["slides"]
    for slide in (small, large):
        assert slide["merged"] == slide["objects"]
        assert slide["versions"] > slide["objects"] > slide["waiting"] > 0
        # A bit for each pixel of the boxes, which are of up to 31 x 31 pixels.
        assert slide["waiting_bytes"] < 121 * slide["waiting"]
    assert (small["objects"], large["objects"]) == (2000, 6000)
    assert (small["tiles"], large["tiles"]) == (4, 16)
