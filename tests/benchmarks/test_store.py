"""`segpipe bench store`: what it says, on little work; how long that takes is not tested."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from segpipe.cli.main import app
from segpipe.errors import SpecError


def call(*arguments: object) -> str:
    small = ("--images", 3, "--size", 64, "--objects", 3, "--rounds", 1)
    done = CliRunner().invoke(app, ["bench", "store", *map(str, (*small, *arguments))])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.stdout


def test_everything_is_measured_and_right(tmp_path: Path) -> None:
    found = json.loads(call("--json", "--out", tmp_path))
    assert found["masks"]["images"] == 3
    assert found["masks"]["intact"]
    assert found["masks_per_core_second"] > 0
    assert found["objects"]["rows"] > 0
    assert found["objects"]["size"] > 0
    assert found["commit"]["images"] == 3
    # Masks, their two metadata files, two tables and the ticket, which becomes the commit.
    assert found["commit"]["files"] == 6
    assert found["commit"]["syncs"] > found["commit"]["files"]
    assert found["pasting"]["objects"] == 3
    assert found["pasting"]["identical"]
    assert found["pasting"]["torchvision"] > 0
    assert {"zarr", "pyarrow", "torchvision"} <= found["conditions"]["packages"].keys()
    assert not [*tmp_path.iterdir()]


def test_the_table_is_for_people() -> None:
    text = call()
    for words in ("masks, 64 x 64", "fsyncs", "3 objects, 2000 x 2000", "the same pixels"):
        assert words in text


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="is no folder"):
        call("--out", tmp_path / "absent")
