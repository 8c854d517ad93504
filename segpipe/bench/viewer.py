"""How long the viewer takes to answer what its first page asks, over many objects."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from typing import Any

from segpipe.bench.query import make_objects
from segpipe.store import create_store, open_store
from segpipe.viewer.answers import Answers
from segpipe.viewer.filters import Filter, Range
from segpipe.viewer.viewer import Viewer

FILTERS: Mapping[str, Filter] = {
    "all": Filter(),
    "class": Filter(classes=("cell",)),
    "area and score": Filter(ranges=(Range.parse("area:500:900"), Range.parse("score::0.3"))),
    "SQL": Filter(where="area > 500 AND path LIKE '%7.png'", level="objects"),
}
"""What is asked for by hand: one class, two brushed histograms, a condition."""

COLUMNS = ("n_objects", "area", "score")


def measure(
    objects: int, folder: Path, rounds: int, observe: Callable[[str], None]
) -> dict[str, Any]:
    """Make a store of so many objects, open it, and ask; of earlier answers only
    the grey bars of the whole store are kept, as they are when a person filters.

    Returns:
        `objects`; `open`: seconds until the first question; `seconds`: question -> median of
        `rounds`, the first left out.
    """
    observe(f"making a store of {objects:,} objects")
    made = make_objects(create_store(folder), objects)
    observe("opening it")
    began = time.perf_counter()
    viewer = Viewer(lambda: open_store(folder))
    opened = time.perf_counter() - began
    observe("asking")
    seconds = {}
    try:
        for name, chosen in FILTERS.items():
            for question, ask in _questions(chosen).items():
                taken = []
                for _ in range(1 + rounds):
                    answers = Answers(viewer.index)
                    for column in COLUMNS if chosen != Filter() else ():
                        answers.histogram(column, Filter())  # the grey bars, there since the start
                    began = time.perf_counter()
                    ask(answers)
                    taken.append(time.perf_counter() - began)
                seconds[f"{name}: {question}"] = median(taken[1:])
    finally:
        viewer.close()
    return {"objects": made, "open": opened, "seconds": seconds}


def _questions(chosen: Filter) -> dict[str, Callable[[Answers], Any]]:
    def images(answers: Answers) -> Any:
        return answers.rows(answers.order(chosen, "largest_area", True), 0, 100)

    def histogram(column: str) -> Callable[[Answers], Any]:
        return lambda answers: answers.histogram(column, chosen)

    return {
        "images": images,
        **{f"histogram of {column}": histogram(column) for column in COLUMNS},
    }


def as_text(outcome: Mapping[str, Any], rounds: int) -> str:
    """The outcome as a table."""
    objects, opened = outcome["objects"], outcome["open"]
    lines = [
        f"{objects:,} objects, opened in {opened:.1f} s; milliseconds, median of {rounds}",
        *(f"{1000 * taken:7.0f}  {name}" for name, taken in outcome["seconds"].items()),
    ]
    return "\n".join(lines)
