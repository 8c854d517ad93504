"""Questions to a store are answered from its own tables, and can do nothing else."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from segpipe.errors import SpecError, StoreError
from segpipe.query import format_table, query
from segpipe.query.views import VIEWS
from segpipe.schema import arrow_schema
from segpipe.store.files import LocalFiles
from segpipe.store.opening import create_store
from segpipe.store.snapshot import Snapshot


def part(root: Path, chunk: str, run: str, images: dict[str, int]) -> None:
    """One published chunk: of each image in `images` that many objects."""
    image_rows = [
        {"run_id": run, "chunk_id": chunk, "image_id": image, "path": f"{image}.png",
         "status": "ok", "n_objects": count}
        for image, count in images.items()
    ]  # fmt: skip
    object_rows = [
        {"run_id": run, "chunk_id": chunk, "image_id": image, "label": label, "area": 10 * label}
        for image, count in images.items()
        for label in range(1, count + 1)
    ]
    for table, rows in (("images", image_rows), ("objects", object_rows)):
        (root / table).mkdir(parents=True, exist_ok=True)
        whole = pa.Table.from_pylist(rows, arrow_schema(table))
        pq.write_table(whole, root / table / f"{chunk}.parquet")


def write_record(root: Path, run: str, record: dict[str, Any]) -> None:
    (root / "runs" / run).mkdir(parents=True)
    (root / "runs" / run / "record.json").write_text(json.dumps({"run_id": run, **record}))


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Two runs: the second did image `a` again, and image `c` for the first time."""
    # A name with wildcards, and a neighbour that it would match: DuckDB reads paths as patterns.
    root, neighbour = tmp_path / "st[o]re's *?", tmp_path / "store's xx"
    part(root, "c1", "2026-01-01", {"a": 3, "b": 1})
    part(root, "c2", "2026-01-02", {"a": 2, "c": 0})
    part(neighbour, "c1", "2026-01-03", {"z": 9})
    write_record(root, "2026-01-01", {"status": "completed"})
    return root


@pytest.fixture
def snapshot(store: Path) -> Snapshot:
    return Snapshot(LocalFiles(store))


def rows(table: pa.Table) -> list[tuple[Any, ...]]:
    return [tuple(row.values()) for row in table.to_pylist()]


# --- what it answers ----------------------------------------------------------------------------


def test_all_results_of_all_runs_are_there(snapshot: Snapshot) -> None:
    assert rows(query(snapshot, "SELECT count(*), sum(n_objects) FROM images")) == [(4, 6)]
    assert rows(query(snapshot, "SELECT count(*), sum(area) FROM objects")) == [(6, 100)]


def test_latest_is_the_newest_result_of_each_image(snapshot: Snapshot) -> None:
    latest = query(snapshot, "SELECT image_id, run_id FROM latest_images ORDER BY 1")
    assert rows(latest) == [("a", "2026-01-02"), ("b", "2026-01-01"), ("c", "2026-01-02")]
    counts = "SELECT image_id, count(*) FROM latest_objects GROUP BY 1 ORDER BY 1"
    assert rows(query(snapshot, counts)) == [("a", 2), ("b", 1)]


def test_a_snapshot_of_a_run_has_its_results_alone(snapshot: Snapshot) -> None:
    runs = {row["run_id"] for row in snapshot.image_rows(latest=False)}
    for run in runs:
        found = list(snapshot.of_run(run).image_rows(latest=False))
        assert {row["run_id"] for row in found} == {run}
        assert len(found) == sum(row["run_id"] == run for row in snapshot.image_rows(latest=False))
    with pytest.raises(SpecError, match="no results of run 'none'"):
        snapshot.of_run("none")


def test_objects_join_to_their_images(snapshot: Snapshot) -> None:
    table = query(
        snapshot,
        "WITH o AS (SELECT image_id, max(area) AS a FROM latest_objects GROUP BY 1) "
        "SELECT path, a FROM latest_images JOIN o USING (image_id) ORDER BY a DESC LIMIT 1",
    )
    assert rows(table) == [("a.png", 20)]


@pytest.mark.parametrize("view", ["images", "objects", "latest_images", "latest_objects"])
def test_the_columns_of_an_empty_store_are_those_of_a_full_one(
    view: str, snapshot: Snapshot, tmp_path: Path
) -> None:
    empty = query(Snapshot(LocalFiles(tmp_path / "new")), f"FROM {view}")
    expected = arrow_schema(view.removeprefix("latest_"))
    if view == "latest_images":
        expected = expected.append(pa.field("missing_since", pa.string()))
    for table in (empty, query(snapshot, f"FROM {view}")):
        assert table.column_names == expected.names
        assert table.schema.types == expected.types
    assert empty.num_rows == 0


def test_runs_are_read_from_their_records(store: Path) -> None:
    write_record(
        store,
        "2026-01-02",
        {
            "status": "completed",
            "started": "2026-01-02T03:04:05.678+00:00",
            "ended": "2026-01-02T03:05:00.000+00:00",
            "spec_id": "s",
            "segment_spec": {"model": {"name": "unet-nuclei", "weights_sha256": "5e"}},
            "summary": {"images": 4, "ok": 2, "failed": 1, "skipped": 1, "objects": 2,
                        "seconds": 2.0, "images_per_second": 1.5},
            "run_spec": {"source": "in"},
            "device": {"name": "a processor", "precision": "fp32"},
            "environment": {"segpipe": "0.1.0"},
            "error": None,
        },
    )  # fmt: skip
    snapshot = Snapshot(LocalFiles(store))
    first, second = query(snapshot, "FROM runs ORDER BY run_id").to_pylist()
    assert (first["run_id"], first["status"], first["images"]) == ("2026-01-01", "completed", None)
    assert second == {
        "run_id": "2026-01-02", "status": "completed",
        "started": datetime.fromisoformat("2026-01-02T03:04:05.678"),
        "ended": datetime.fromisoformat("2026-01-02T03:05:00"),
        "model": "unet-nuclei", "spec_id": "s", "images": 4, "ok": 2, "failed": 1, "skipped": 1,
        "objects": 2, "seconds": 2.0, "images_per_second": 1.5, "source": "in",
        "device": "a processor", "precision": "fp32", "weights_sha256": "5e",
        "segpipe_version": "0.1.0", "error": None,
    }  # fmt: skip


def test_repeated_column_names_are_told_apart(snapshot: Snapshot) -> None:
    assert query(snapshot, 'SELECT 1 AS a, 2 AS a, 3 AS "a_1"').to_pylist() == [
        {"a": 1, "a_2": 2, "a_1": 3}
    ]


# --- what it refuses ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("", "0 statements"),
        ("SELECT 1; SELECT 2", "2 statements"),
        ("SELECT 1; DROP VIEW images", "2 statements"),
        ("COPY images TO '{out}'", "COPY is not allowed"),
        ("ATTACH '{out}' AS other", "ATTACH is not allowed"),
        ("INSTALL httpfs", "not allowed"),
        ("LOAD httpfs", "LOAD is not allowed"),
        ("SET lock_configuration = false", "SET is not allowed"),
        ("RESET memory_limit", "not allowed"),
        ("PRAGMA database_list", "PRAGMA is not allowed"),
        ("CALL pragma_version()", "CALL is not allowed"),
        ("EXPLAIN ANALYZE SELECT 1", "EXPLAIN is not allowed"),
        ("EXPORT DATABASE '{out}'", "not allowed"),
        ("CREATE TABLE mine AS SELECT 1", "CREATE is not allowed"),
        ("DELETE FROM runs", "DELETE is not allowed"),
        ("PREPARE p AS SELECT 1", "PREPARE is not allowed"),
        ("WITH d AS (DELETE FROM runs RETURNING *) SELECT * FROM d", "DELETE is not allowed"),
        ("WITH i AS (INSERT INTO runs (run_id) VALUES ('x') RETURNING *) FROM i", "INSERT is not"),
        ("SELECT * FROM read_csv('{other}')", "read_csv is not allowed"),
        ("SELECT * FROM read_text('{other}')", "read_text is not allowed"),
        ("SELECT (SELECT content FROM read_text('{other}'))", "read_text is not allowed"),
        ("SELECT * FROM read_parquet('{other}')", "read_parquet is not allowed"),
        ("SELECT * FROM glob('/etc/*')", "glob is not allowed"),
        ("SELECT * FROM query('SELECT 1')", "query is not allowed"),
        ("SELECT * FROM duckdb_settings()", "duckdb_settings is not allowed"),
        ("SELECT * FROM enable_logging(storage = 'file')", "enable_logging is not allowed"),
        ("SELECT * FROM '{other}'", "disabled by configuration"),
        ("SELECT * FROM 'https://example.org/a.parquet'", "."),
        ("SELECT * FROM secret", "secret does not exist"),
        ("SELECT " + "1, " * 100_000 + "1", "at most 100000"),
        ("SELECT " + "(" * 40_000 + "1" + ")" * 40_000, "."),
    ],
)
def test_all_but_one_harmless_select_is_refused(
    sql: str, message: str, snapshot: Snapshot, tmp_path: Path
) -> None:
    secret = pa.table({"value": ["a Python variable"]})
    other = tmp_path / "other.parquet"
    pq.write_table(secret, other)
    before = sorted(path for path in tmp_path.rglob("*"))
    with pytest.raises(SpecError, match=message):
        query(snapshot, sql.format(out=tmp_path / "out", other=other))
    assert sorted(path for path in tmp_path.rglob("*")) == before


def test_the_neighbour_that_a_pattern_would_match_is_not_read(
    snapshot: Snapshot, store: Path
) -> None:
    neighbour = store.parent / "store's xx" / "images" / "c1.parquet"
    quoted = str(neighbour).replace("'", "''")
    assert rows(query(snapshot, "SELECT count(*) FROM images WHERE image_id = 'z'")) == [(0,)]
    with pytest.raises(SpecError, match="disabled by configuration"):
        query(snapshot, f"SELECT * FROM '{quoted}'")


@pytest.mark.parametrize(
    "sql",
    [
        "WITH RECURSIVE r AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM r) SELECT max(i) FROM r",
        "SELECT count(*) FROM range(10000000) a, range(10000000) b WHERE a.range + b.range = -1",
        "SELECT pg_sleep(3600)",
    ],
)
def test_a_query_without_an_end_is_stopped(sql: str, snapshot: Snapshot) -> None:
    with pytest.raises(SpecError, match=r"longer than 0\.2 seconds"):
        query(snapshot, sql, seconds=0.2)


def test_a_result_without_measure_is_refused(
    snapshot: Snapshot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("segpipe.query.execute.MAX_RESULT_BYTES", 1_000_000)
    with pytest.raises(SpecError, match="larger than 1,000,000 bytes"):
        query(snapshot, "FROM range(10000000000)")


def test_memory_is_limited(snapshot: Snapshot) -> None:
    with pytest.raises(SpecError, match="Out of Memory"):
        query(snapshot, "SELECT len(list(range)) FROM range(100000000)", memory_limit="50MB")
    with pytest.raises(SpecError, match="lots"):
        query(snapshot, "SELECT 1", memory_limit="lots")


def test_text_that_no_limit_of_duckdb_counts_is_limited_too(tmp_path: Path) -> None:
    """4 GB in one row, which is more than the program allows itself for a query."""
    store = create_store(tmp_path).address
    sql = "SELECT max(md5(repeat('x', 4000000000)))"
    command = [sys.executable, "-m", "segpipe", "query", store, sql]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2, done.stdout
    assert "Out of Memory" in done.stderr
    assert "Traceback" not in done.stderr


def test_nothing_is_left_behind(
    snapshot: Snapshot, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    before = sorted(store.rglob("*"))
    # Sorting more than fits makes DuckDB spill.
    sql = "SELECT max(x) FROM (SELECT hash(range) x FROM range(10000000) ORDER BY x OFFSET 1)"
    query(snapshot, sql, memory_limit="60MB", threads=1)
    assert list(folder.iterdir()) == []
    assert sorted(store.rglob("*")) == before


def test_a_wrong_name_is_answered_with_the_right_ones(snapshot: Snapshot) -> None:
    with pytest.raises(SpecError, match="n_objects") as column:
        query(snapshot, "SELECT objects_found FROM latest_images")
    assert "Columns of latest_images" in str(column.value)
    with pytest.raises(SpecError) as table:
        query(snapshot, "SELECT * FROM pictures")
    assert all(view in str(table.value) for view in VIEWS)


def test_damage_in_the_store_is_not_blamed_on_the_question(store: Path) -> None:
    (store / "objects" / "c1.parquet").write_bytes(b"torn")
    with pytest.raises(StoreError, match="objects"):
        query(Snapshot(LocalFiles(store)), "FROM images")


def test_a_damaged_record_is_named(store: Path) -> None:
    write_record(store, "2026-01-09", {"summary": {"images": "many"}})
    with pytest.raises(StoreError, match="runs"):
        query(Snapshot(LocalFiles(store)), "FROM images")


# --- how it is shown ----------------------------------------------------------------------------

ODD = pa.table(
    {
        "path": ["=cmd|' /C calc'!A0", "\x1b[2J[red]a\u202eb\nc", None],
        "n": pa.array([-1, 2, None], pa.int64()),
        "mean": pa.array([[1.5, float("nan")], [], None], pa.list_(pa.float32())),
        "@x": ["plain", "+1", "a,b"],
    }
)


def shown(table: pa.Table, how: Any) -> str:
    stream = io.StringIO()
    format_table(table, how, stream)
    return stream.getvalue()


def test_csv_holds_every_value_and_no_formula() -> None:
    assert list(csv.reader(io.StringIO(shown(ODD, "csv")))) == [
        ["path", "n", "mean", "'@x"],
        ["'=cmd|' /C calc'!A0", "-1", "[1.5, null]", "plain"],
        ["\x1b[2J[red]a\u202eb\nc", "2", "[]", "'+1"],
        ["", "", "", "a,b"],
    ]


def test_json_is_one_array_with_every_value_as_it_is() -> None:
    assert json.loads(shown(ODD, "json")) == [
        {"path": "=cmd|' /C calc'!A0", "n": -1, "mean": [1.5, None], "@x": "plain"},
        {"path": "\x1b[2J[red]a\u202eb\nc", "n": 2, "mean": [], "@x": "+1"},
        {"path": None, "n": None, "mean": None, "@x": "a,b"},
    ]
    assert json.loads(shown(ODD.slice(0, 0), "json")) == []


def test_json_keeps_numbers_of_any_width_and_says_times(snapshot: Snapshot) -> None:
    table = query(
        snapshot,
        "SELECT sum(area) AS whole, 1.25::DECIMAL(9, 2) AS part, TIMESTAMP '2026-01-02 03:04:05' "
        "AS moment, {'a': [1]} AS nested FROM objects",
    )
    assert json.loads(shown(table, "json")) == [
        {"whole": 100, "part": 1.25, "moment": "2026-01-02T03:04:05", "nested": {"a": [1]}}
    ]


def test_a_table_cannot_steer_the_terminal() -> None:
    text = shown(ODD, "table")
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "\\x1b[2J[red]a" in text
    assert text.endswith("3 rows\n")


def test_a_table_says_what_it_leaves_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    long = pa.table({f"column_{i}": ["x" * 100] * 150 for i in range(5)})
    text = shown(long, "table")
    assert "150 rows, the first 100 shown, 1 of 5 columns shown" in text
    assert max(map(len, text.splitlines())) <= 80


def test_parquet_is_the_table_itself(snapshot: Snapshot, tmp_path: Path) -> None:
    table = query(snapshot, "FROM objects ORDER BY image_id, label")
    with (tmp_path / "out.parquet").open("w") as stream:
        format_table(table, "parquet", stream)
    assert pq.read_table(tmp_path / "out.parquet").equals(table)


def test_an_unknown_format_is_refused() -> None:
    with pytest.raises(SpecError, match="table, csv, json, parquet"):
        shown(ODD, "xlsx")
