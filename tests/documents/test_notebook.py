"""The notebook: it runs from start to end in an empty folder, and says what its page says."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from tests.conftest import REPOSITORY

NOTEBOOK = REPOSITORY / "docs" / "analysis.ipynb"
NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
ABSOLUTE_PATH = re.compile(r"(?<![\w.~/<])/\w\S*|\b[A-Za-z]:\\\S*|file:/\S*")


@pytest.fixture(scope="module")
def committed() -> dict[str, Any]:
    return json.loads(NOTEBOOK.read_text("utf-8"))  # type: ignore[no-any-return]


def said(cell: dict[str, Any]) -> list[str]:
    """What a cell returned, and that it drew; log lines, which are displays too, left out."""
    found = []
    for output in cell.get("outputs", ()):
        data = output.get("data", {})
        if "image/png" in data:
            found.append("picture")
        elif output["output_type"] == "execute_result":
            found.append("".join(data["text/plain"]))
    return found


def texts(part: Any) -> Iterator[str]:
    """All that is written in a part of a notebook; pictures left out."""
    if isinstance(part, str):
        yield part
    elif isinstance(part, list):
        for one in part:
            yield from texts(one)
    elif isinstance(part, dict):
        for key, one in part.items():
            if not key.startswith("image/"):
                yield from texts(one)


def test_the_notebook_runs_and_says_what_its_page_says(
    committed: dict[str, Any], tmp_path: Path
) -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)  # type: ignore[no-untyped-call]
    resources = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(notebook, timeout=240, resources=resources).execute()  # a cell's error is ours
    pairs = [
        (said(before), said(after))
        for before, after in zip(committed["cells"], notebook.cells, strict=True)
        if before["cell_type"] == "code"
    ]
    assert sum(len(before) for before, _ in pairs) >= 10
    for before, after in pairs:
        assert [NUMBER.sub("#", text) for text in before] == [NUMBER.sub("#", t) for t in after]
        for one, other in zip(before, after, strict=True):
            numbers = [[float(n) for n in NUMBER.findall(text)] for text in (one, other)]
            # Another processor rounds differently: a nucleus more or less, a pixel here and there.
            assert numbers[1] == pytest.approx(numbers[0], rel=0.05, abs=2)


def test_what_is_committed_is_whole_and_of_no_machine(committed: dict[str, Any]) -> None:
    text = json.dumps(committed)
    assert nbformat.validate(committed) is None  # type: ignore[no-untyped-call]
    assert [path for one in texts(committed) for path in ABSOLUTE_PATH.findall(one)] == []
    for word in ("127.0.0.1", "Traceback"):
        assert word not in text
    assert all(cell["execution_count"] is None for cell in committed["cells"] if "outputs" in cell)
    assert text.count("image/png") == 2


@pytest.mark.parametrize(
    "text",
    ["read_png('/data/a.png')", "FILE=/srv/images/a", "see file:///mnt/a", "in C:\\Users\\ann\\a"],
)
def test_a_path_of_a_machine_is_found_wherever_it_stands(text: str) -> None:
    cell = {"cell_type": "code", "source": [text], "outputs": [{"data": {"image/png": "/9j/4AA"}}]}
    assert [bool(ABSOLUTE_PATH.search(one)) for one in texts(cell)] == [False, True]


@pytest.mark.parametrize(
    "text", ["area / 3", "docs/a.md", "../a", "~/a", "https://a.org/b", "text/plain", "</div>"]
)
def test_what_is_no_path_of_a_machine_is_let_be(text: str) -> None:
    assert not ABSOLUTE_PATH.search(text)
