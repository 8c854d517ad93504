"""`segpipe bench planning`: a generated archive is planned; how long that takes is not tested."""

from __future__ import annotations

import json

from typer.testing import CliRunner

from segpipe.bench.planning import Archive, later_night
from segpipe.cli.main import app

MEMORY_BYTES = 1_000_000_000
"""What planning may add to the process; the scratch database has half of it."""


def test_two_nights_are_planned() -> None:
    asked = ["bench", "planning", "--images", "20000", "--new", "100", "--part-images", "3000"]
    done = CliRunner().invoke(app, [*asked, "--files", "--json"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    first, later = found["nights"]
    assert found["listed"]["images"] == 20_000
    assert (first["listed"], first["planned"], first["chunks"]) == (20_000, 20_000, 313)
    assert (later["listed"], later["planned"], later["chunks"]) == (20_000, 100, 3)
    assert first["plan_bytes"] > later["plan_bytes"] > 0


def test_a_night_of_ten_million_images_is_planned_in_bounded_memory(tmp_path) -> None:
    archive = Archive(images=10_000_000, new=20_000, partition_chunks=100)
    night = later_night(archive, tmp_path)
    assert (night.listed, night.planned) == (10_000_000, 20_000)
    # Chunks of 64, in partitions of 100 of them, each a run with a plan of its own.
    assert (night.chunks, night.partitions) == (313, 4)
    assert night.peak - night.base < MEMORY_BYTES
