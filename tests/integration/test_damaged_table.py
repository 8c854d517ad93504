"""A page of a table is damaged: whoever reads it says in which file."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from segpipe.errors import StoreError
from segpipe.export.geojson import export_geojson
from segpipe.export.tables import export_parquet
from segpipe.provenance.deposit import deposit
from segpipe.query import query
from segpipe.report.diff.runs import Results, image_pairs
from segpipe.reproduction.sample import sample_rows
from segpipe.schema import TABLES
from segpipe.store import Snapshot, create_store, open_store
from tests.nights import Nights

COLUMN = {"images": "height", "objects": "area"}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    nights = Nights(create_store(folder / "store"), folder / "images")
    nights.add_images(12)
    nights()
    return folder / "store"


def damage(store: Path, table: str) -> str:
    """Change the bytes of one column in the middle of a part; returns its name."""
    path = sorted((store / table).glob("*.parquet"))[1]
    group = pq.ParquetFile(path).metadata.row_group(0)
    columns = (group.column(k) for k in range(group.num_columns))
    column = next(one for one in columns if one.path_in_schema == COLUMN[table])
    content = bytearray(path.read_bytes())
    start = column.dictionary_page_offset or column.data_page_offset
    for place in range(start + 20, start + column.total_compressed_size):
        content[place] ^= 0x5A
    path.write_bytes(content)
    return f"{table}/{path.name}"


def let_arrow_read(store: Path) -> None:
    """As of a store in a bucket: DuckDB does not read the parts itself."""
    marker = json.loads((store / "segpipe.json").read_text())
    (store / "segpipe.json").write_text(json.dumps({**marker, "raised_from": 1}))


def run_of(snapshot: Snapshot) -> str:
    run_id: str = snapshot.records()[0]["run_id"]
    return run_id


def compare(snapshot: Snapshot, out: Path) -> None:
    run = Results("run", (run_id := run_of(snapshot),), {run_id: ()})
    list(image_pairs(snapshot, run, run, 0.5, 0.8))


READERS: dict[str, dict[str, Callable[[Snapshot, Path], object]]] = {
    "images": {
        "rows": lambda snapshot, out: list(snapshot.image_rows()),
        "query": lambda snapshot, out: query(snapshot, "SELECT sum(height) FROM images"),
        "parquet": export_parquet,
        "diff": compare,
        "sample": lambda snapshot, out: sample_rows(snapshot, run_of(snapshot), 12, 0),
        "crate": lambda snapshot, out: deposit(snapshot, run_of(snapshot), out, with_results=True),
    },
    "objects": {
        "query": lambda snapshot, out: query(snapshot, "SELECT sum(area) FROM objects"),
        "geojson": export_geojson,
        "parquet": export_parquet,
        "crate": lambda snapshot, out: deposit(snapshot, run_of(snapshot), out, with_results=True),
    },
}


@pytest.mark.parametrize("arrow", [False, True])
@pytest.mark.parametrize(
    ("table", "reader"), [(table, reader) for table in TABLES for reader in READERS[table]]
)
def test_the_damaged_file_is_named(
    table: str, reader: str, arrow: bool, whole: Path, tmp_path: Path
) -> None:
    shutil.copytree(whole, tmp_path / "store")
    name = damage(tmp_path / "store", table)
    if arrow:
        let_arrow_read(tmp_path / "store")
    snapshot = open_store(tmp_path / "store")
    with pytest.raises(StoreError, match=name):
        READERS[table][reader](snapshot, tmp_path / "out")
