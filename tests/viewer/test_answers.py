"""What is shown is what the store holds, and what the SQL of the filter finds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from PIL import Image

from segpipe.errors import SpecError
from segpipe.query import query
from segpipe.store import open_store
from segpipe.store.forget import forget, plan_forgetting
from segpipe.viewer.answers import bin_edges, bin_of
from segpipe.viewer.filters import MEASURES, Filter, Range, as_query
from segpipe.viewer.index import Index
from segpipe.viewer.sharing import Item, Selection, as_sql, selected_rows
from segpipe.viewer.viewer import Viewer
from tests.viewer.archive import STRICT, Archive, add_run, field


@pytest.fixture(scope="module")
def viewer(archive: Archive) -> Iterator[Viewer]:
    viewer = Viewer(lambda: open_store(archive.store))
    yield viewer
    viewer.close()


def shown(viewer: Viewer, chosen: Filter, sort: str = "path") -> list[dict[str, Any]]:
    order = viewer.answers.order(chosen, sort, False)
    return viewer.answers.rows(order, 0, 500)


def ranges(*texts: str) -> tuple[Range, ...]:
    return tuple(Range.parse(text) for text in texts)


FILTERS = [
    Filter(),
    Filter(model="threshold"),
    Filter(run="20261102T030000000Z-000001"),
    Filter(name="PLATE-1"),
    Filter(name="' OR true --"),
    Filter(outcomes=("truncated",)),
    Filter(outcomes=("ok", "truncated"), name="broken"),
    Filter(model="threshold", classes=("debris",)),
    Filter(ranges=ranges("n_objects:2:4")),
    Filter(model="threshold", ranges=ranges("area:40:120", "score::0.6")),
    Filter(model="threshold", ranges=ranges("mean_intensity:200:"), classes=("cell", "debris")),
    Filter(model="threshold", where="n_objects % 2 = 1 OR false"),
    Filter(model="threshold", where="area > 50 AND path LIKE '%1.png' -- these", level="objects"),
]


@pytest.mark.parametrize("chosen", FILTERS, ids=range(len(FILTERS)))
def test_the_sql_of_a_filter_finds_what_is_shown(
    viewer: Viewer, archive: Archive, chosen: Filter
) -> None:
    snapshot = open_store(archive.store)
    images = query(snapshot, as_query(chosen, "images")).to_pylist()
    rows = shown(viewer, chosen)
    assert [(row["run_id"], row["path"]) for row in rows] == [
        (image["run_id"], image["path"]) for image in images
    ]
    objects = query(snapshot, as_query(chosen, "objects"))
    assert sum(row["n"] or 0 for row in rows) == len(objects)
    assert all((row["n"] or 0) > 0 for row in rows if chosen.object_conditions())


def test_a_histogram_counts_what_is_shown_without_its_own_range(viewer: Viewer) -> None:
    chosen = Filter(model="threshold", ranges=ranges("area:60:"), classes=("cell",))
    order = viewer.answers.order(chosen.without("area"), "path", False)
    found = viewer.answers.histogram("area", chosen)
    assert sum(found["shown"]) == order.objects
    assert sum(found["all"]) == viewer.answers.order(chosen.scope, "path", False).objects
    assert len(found["edges"]) == len(found["all"]) + 1 == len(found["shown"]) + 1


@pytest.mark.parametrize("name", MEASURES)
def test_every_measure_has_a_histogram(viewer: Viewer, name: str) -> None:
    found = viewer.answers.histogram(name, Filter(model="threshold"))
    if found["edges"]:
        inside = Range(MEASURES[name], found["edges"][0], found["edges"][-1])
        kept = viewer.answers.histogram(name, Filter(model="threshold", ranges=(inside,)))
        assert sum(kept["shown"]) == sum(found["all"]) > 0
    else:
        assert found["all"] == []


@pytest.mark.parametrize(("low", "high"), [(0, 240), (0, 10**12), (1e-9, 1e-3), (-1e300, 1e300)])
def test_numbers_of_any_size_are_counted(low: float, high: float) -> None:
    """33 steps of 40 / 33 would overflow a DECIMAL."""
    index = Index()
    values = ", ".join(f"({low + (high / 33 - low / 33) * step!r}::DOUBLE)" for step in range(34))
    edges, log = bin_edges(low, high, high / 2, False)
    place = bin_of(edges, log)
    counts = index.ask(f"SELECT {place} AS b, count(*) FROM (VALUES {values}) t(v) GROUP BY b")
    assert sum(count for _, count in counts) == 34
    assert {place for place, _ in counts} >= {0, 39}
    index.close()


def test_orders(viewer: Viewer) -> None:
    chosen = Filter(model="threshold", outcomes=("ok",))
    areas = [row["largest"] for row in shown(viewer, chosen, "largest_area") if row["largest"]]
    assert areas == sorted(areas)
    with pytest.raises(SpecError, match="allowed: path"):
        viewer.answers.order(chosen, "path; DROP", False)


@pytest.mark.parametrize("text", ["area", "area:1", "nonsense:1:2", "area:x:2", "area:inf:", ""])
def test_a_range_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(SpecError, match="COLUMN:LOW:HIGH"):
        Range.parse(text)


@pytest.mark.parametrize(
    ("low", "high", "middle", "whole", "bins", "log"),
    [
        (0, 5, 2, True, 6, False),
        (3, 3, 3, True, 1, False),
        (0.5, 0.5, 0.5, False, 1, False),
        (0, 1000, 10, True, 40, False),
        (1, 1000, 10, True, 40, True),
        (-3, 3, 0, False, 40, False),
    ],
)
def test_bins(low: float, high: float, middle: float, whole: bool, bins: int, log: bool) -> None:
    edges, logarithmic = bin_edges(low, high, middle, whole)
    assert (len(edges) - 1, logarithmic) == (bins, log)
    assert edges == sorted(edges)
    assert edges[0] <= low <= high <= edges[-1]


def test_what_is_committed_meanwhile_is_shown_and_what_is_forgotten_is_not(tmp_path: Path) -> None:
    archive = Archive(tmp_path, count=6)
    index = Index()
    index.refresh(open_store(archive.store))

    def counts() -> tuple[Any, ...]:
        (row,) = index.ask(
            "SELECT count(*), count(*) FILTER (newest), sum(n_objects), "
            "(SELECT count(*) FROM object_rows) FROM image_rows JOIN facts USING (result)"
        )
        return row

    before = counts()
    Image.fromarray(field(7)).save(archive.images / "new.png")
    run = add_run(archive.files, archive.images, 3, STRICT)
    index.refresh(open_store(archive.store))
    grown = counts()
    assert (grown[0] - before[0], grown[1] - before[1], index.version) == (1, 1, 2)
    assert grown[2] == grown[3]
    forget(archive.files, plan_forgetting(archive.files, run))
    index.refresh(open_store(archive.store))
    assert counts() == before
    index.refresh(open_store(archive.store))
    assert index.version == 3
    index.close()


def items(viewer: Viewer, chosen: Filter, label: int | None = None) -> list[Item]:
    rows = shown(viewer, chosen)
    return [Item(image_id=row["image_id"], run=row["run_id"], label=label) for row in rows]


def test_a_selection_is_the_rows_of_the_store(viewer: Viewer, archive: Archive) -> None:
    chosen = items(viewer, Filter(model="threshold", ranges=ranges("n_objects:3:")))
    images = selected_rows(viewer, Selection(format="csv", items=[*chosen, *chosen]))
    assert len(images) == len(chosen)
    assert images.schema.equals(open_store(archive.store).dataset("images").schema)
    assert set(images["n_objects"].to_pylist()) <= set(range(3, 20))
    gone = Item(image_id="0" * 24, run=archive.before)
    some = selected_rows(viewer, Selection(format="csv", items=[*chosen[:2], gone]))
    assert len(some) == 2


def test_selected_objects_are_theirs(viewer: Viewer, archive: Archive, tmp_path: Path) -> None:
    chosen = items(viewer, Filter(model="threshold", ranges=ranges("n_objects:3:")), label=2)
    selection = Selection(format="parquet", what="objects", items=chosen)
    rows = selected_rows(viewer, selection)
    assert rows.column_names[0] == "path"
    assert set(rows["label"].to_pylist()) == {2}
    pq.write_table(rows, tmp_path / "rows.parquet")
    selection.format = "sql"
    found = query(open_store(archive.store), as_sql(selection, "results"))
    keys = ("run_id", "image_id", "label")
    assert (
        found.select(keys)
        .sort_by("image_id")
        .equals(rows.select(keys).sort_by("image_id").combine_chunks())
    )


def test_a_selection_that_is_too_long_as_sql_says_so() -> None:
    many = [Item(image_id=f"{n:024d}", run="r") for n in range(5000)]
    with pytest.raises(SpecError, match="100,000"):
        as_sql(Selection(format="sql", items=many), "results")
