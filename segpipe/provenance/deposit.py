"""A run's crate on its own, for an archive such as Zenodo: a folder or a zip that needs no store.

It holds what is kept of the run (record, plan, chunks, sums, report, the flow), and its rows if
they are asked for. The images, the masks and the weights are named in it, and not in it.
"""

from __future__ import annotations

import hashlib
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pyarrow.dataset as ds
import pyarrow.parquet as pq

from segpipe.errors import SpecError
from segpipe.provenance.crate import README, RECORD_FILE, CrateFile, crate_json
from segpipe.provenance.record import FLOW_FILE, RunRecord
from segpipe.provenance.runs import read_record
from segpipe.schema import TABLES, arrow_schema
from segpipe.store import layout
from segpipe.store.damage import named_damage
from segpipe.store.files import Files
from segpipe.store.leases import is_live, live_runs
from segpipe.store.snapshot import Snapshot

METADATA = "ro-crate-metadata.json"

_MEANINGS = {
    "plan.parquet": (
        "Every image that was planned, and its chunk",
        "application/vnd.apache.parquet",
    ),
    "chunks.parquet": ("What each chunk came to", "application/vnd.apache.parquet"),
    "missing.parquet": ("Images that were gone from their place", "application/vnd.apache.parquet"),
    "sums.json": ("Size and sha256 of the files of the run", "application/json"),
    "statistics.json": ("Statistics of the night", "application/json"),
    "report.html": ("Page of the night", "text/html"),
    "tombstone.json": ("What was forgotten of the run, and why", "application/json"),
}
_ROWS = "One row per {}, of this run alone"
_STAMP = (1980, 1, 1, 0, 0, 0)  # the earliest that a zip can say: the same run, the same bytes


def deposit(snapshot: Snapshot, run_id: str, out: Path, with_results: bool = False) -> list[Path]:
    """Write the crate of a run that has ended.

    Args:
        out: a file that ends in `.zip`, or a folder; made here, as a whole or not at all.
        with_results: with the rows of `images` and `objects` that the run made.

    Returns:
        What lies in it, relative to it.

    Raises:
        SpecError: the run is still at work, its record cannot be read, or `out` is there already.
    """
    record = _ended(snapshot.files, run_id)
    if out.exists():
        raise SpecError(f"{out}: is there already; give a new name")
    if not out.absolute().parent.is_dir():
        raise SpecError(f"{out.absolute().parent}: no such folder")
    with tempfile.TemporaryDirectory(prefix=".segpipe-", dir=out.absolute().parent) as scratch:
        folder = Path(scratch) / "crate"
        folder.mkdir()
        for name in sorted(set(snapshot.files.names(layout.run_folder(run_id))) - {METADATA}):
            (folder / name).write_bytes(snapshot.files.read(layout.run_file(run_id, name)))
        if with_results:
            _write_rows(snapshot, run_id, folder)
        (folder / README).write_text(_readme(record, with_results), "utf-8")
        files = [_described(path) for path in sorted(folder.iterdir()) if path.name not in _OWN]
        (folder / METADATA).write_text(crate_json(record, files), "utf-8")
        names = sorted(folder.iterdir())
        if out.suffix == ".zip":
            folder = _zipped(names, Path(scratch) / "crate.zip")
        folder.rename(out)
    return [Path(path.name) for path in names]


_OWN = {RECORD_FILE, FLOW_FILE}
"""Files that the crate describes by itself."""


def _ended(files: Files, run_id: str) -> RunRecord:
    record = read_record(files, run_id)
    if record.status == "running" and is_live(run_id, live_runs(files)):
        raise SpecError(f"run {run_id} is still at work; its crate is made when it has ended")
    return record


def _write_rows(snapshot: Snapshot, run_id: str, folder: Path) -> None:
    """Stream them: memory holds a batch, however many there are."""
    for table in TABLES:
        rows = snapshot.dataset(table).scanner(filter=ds.field("run_id") == run_id)
        path = folder / f"{table}.parquet"
        with (
            pq.ParquetWriter(path, arrow_schema(table), compression="zstd") as writer,
            named_damage(snapshot, table),
        ):
            for batch in rows.to_batches():
                if batch.num_rows:
                    writer.write_batch(batch)


def _described(path: Path) -> CrateFile:
    meaning, encoding = _MEANINGS.get(path.name, ("Kept with the run", "application/octet-stream"))
    if path.stem in TABLES:
        meaning, encoding = _ROWS.format(path.stem.rstrip("s")), _MEANINGS["plan.parquet"][1]
    if path.name == README:
        meaning, encoding = "What this is", "text/markdown"
    digest = hashlib.sha256()
    for block in _blocks(path):
        digest.update(block)
    return CrateFile(path.name, meaning, encoding, path.stat().st_size, digest.hexdigest())


def _blocks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            yield block


def _zipped(paths: list[Path], target: Path) -> Path:
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in paths:
            entry = zipfile.ZipInfo(path.name, _STAMP)
            entry.compress_type = zipfile.ZIP_DEFLATED
            with archive.open(entry, "w", force_zip64=True) as sink:
                for block in _blocks(path):
                    sink.write(block)
    return target


def _readme(record: RunRecord, with_results: bool) -> str:
    """No name of a stranger stands in it: only ids, counts and names of files."""
    summary = record.summary
    counts = f"{summary.ok} images with {summary.objects} objects" if summary else "unknown"
    rows = (
        "The rows of its results are `images.parquet` and `objects.parquet`."
        if with_results
        else "Its results are not in it: they lie in the store that the record names."
    )
    return (
        f"# Run {record.run_id}\n\n"
        f"An RO-Crate of one segmentation run of segpipe {record.environment['segpipe']}.\n"
        f"Status: {record.status}. Segmented: {counts}. {rows}\n\n"
        f"`{METADATA}` describes every file; `{RECORD_FILE}` is the record of the run: "
        "specification, environment,\nplan, timings, failures. Images and weights are named there "
        "by sha256 and address.\n"
    )
