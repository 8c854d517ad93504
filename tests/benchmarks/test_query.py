"""`segpipe bench query`: what it prints; how long anything takes is not tested."""

from __future__ import annotations

import json

from typer.testing import CliRunner

from segpipe.bench.query import CHUNK_IMAGES, IMAGE_OBJECTS, QUESTIONS, make_objects
from segpipe.cli.main import app
from segpipe.query import query
from segpipe.store import create_store, open_store


def test_every_question_is_asked_of_both_layouts() -> None:
    asked = ["bench", "query", "--objects", "7000", "--rounds", "1", "--json"]
    done = CliRunner().invoke(app, asked)
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["objects"] == 2 * CHUNK_IMAGES * IMAGE_OBJECTS
    before, after = found["seconds"]["before"], found["seconds"]["after"]
    assert (before["parts"], after["parts"]) == (2, 1)
    for layout in (before, after):
        assert layout["segpipe"].keys() == layout["plain"].keys() == QUESTIONS.keys()


def test_the_generated_store_answers_every_question(tmp_path) -> None:
    assert make_objects(create_store(tmp_path / "store"), 1) == CHUNK_IMAGES * IMAGE_OBJECTS
    snapshot = open_store(tmp_path / "store")
    answers = {
        name: query(snapshot, question.format(objects="latest_objects")).num_rows
        for name, question in QUESTIONS.items()
    }
    assert answers == {"filter": 1, "by image": CHUNK_IMAGES, "top 100": 100}
