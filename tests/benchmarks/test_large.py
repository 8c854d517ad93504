"""`segpipe bench large`: what it prints, and that the same is found; times are not tested."""

from __future__ import annotations

import json

from typer.testing import CliRunner

from segpipe.cli.main import app


def test_a_large_image_has_the_objects_of_its_small_ones() -> None:
    done = CliRunner().invoke(app, ["bench", "large", "--side", "1024", "--json"])
    assert done.exit_code == 0, done.output
    (image,) = json.loads(done.stdout)["images"]
    assert image["side"] == 1024
    assert abs(image["objects"] - image["small_objects"]) < 0.1 * image["small_objects"]
    assert image["ratio"] > 0
    assert image["peak"] >= image["base"] > 0


def test_fields_fill_an_image() -> None:
    done = CliRunner().invoke(app, ["bench", "large", "--side", "1500"])
    assert (done.exit_code, "multiple of 512" in str(done.exception)) == (1, True)
