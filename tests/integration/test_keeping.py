"""Keeping a store: old formats, garbage, compactions, retries, forgetting."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import duckdb
import pyarrow.parquet as pq
import pytest

from segpipe.errors import SpecError
from segpipe.pipeline import process_chunk
from segpipe.query import query
from segpipe.records import Chunk
from segpipe.store import Snapshot, compaction, create_store, layout, open_store
from segpipe.store.commits import Attempt, committed
from segpipe.store.compaction import SORTED_BY, compact, compactions
from segpipe.store.digest import logical_digest
from segpipe.store.files import LocalFiles, SweptError
from segpipe.store.forget import forget, plan_forgetting
from segpipe.store.fsck import check_store
from segpipe.store.gc import collect, find_garbage
from segpipe.store.leases import LEASE_SECONDS, lease, live_runs
from segpipe.store.upkeep import keep_up
from tests.generated import (
    SPEC,
    ThresholdSegmenter,
    chunk_of,
    due_chunks,
    failed_ids,
    make_collection,
    refs,
)

STORES = Path(__file__).resolve().parents[1] / "stores"


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_collection(tmp_path_factory.mktemp("images"), 12, broken=[4, 9])


@pytest.fixture
def files(images: Path, tmp_path: Path) -> LocalFiles:
    """Two runs: the first did half of the images."""
    files = create_store(tmp_path / "store")
    first, second = refs(images)[:6], refs(images)[6:]
    segment(files, first, "run-1")
    segment(files, second, "run-2")
    for run in ("run-1", "run-2"):
        files.write(f"runs/{run}/record.json", b"{}")
    return files


def segment(files: LocalFiles, listing: tuple, run_id: str, size: int = 3) -> list[Chunk]:
    chunks = due_chunks(Snapshot(files), size, listing)
    for chunk in chunks:
        process_chunk(chunk, ThresholdSegmenter(), files, run_id)
    return chunks


def problems(files: LocalFiles) -> list[str]:
    """Of results; the runs here have no records of their own."""
    return [str(problem) for problem in check_store(files)]


def rows(files: LocalFiles, table: str) -> list[dict]:
    return sorted(
        Snapshot(files).dataset(table).to_table().to_pylist(),
        key=lambda row: (row["run_id"], row["image_id"], row.get("label", 0)),
    )


# Older formats


@pytest.fixture
def old_store(tmp_path: Path) -> Path:
    """Written by segpipe 0.1, format 1."""
    zipfile.ZipFile(STORES / "format-1.zip").extractall(tmp_path)
    return tmp_path / "store"


def test_an_older_store_is_read_as_it_is(old_store: Path) -> None:
    before = {path: path.read_bytes() for path in old_store.rglob("*") if path.is_file()}
    snapshot = open_store(old_store)
    assert sum(row["status"] == "ok" for row in snapshot.image_rows()) == 4
    assert query(snapshot, "SELECT count(*) AS n FROM objects")["n"].to_pylist() == [10]
    assert [record["status"] for record in snapshot.records()] == ["completed"]
    assert list(check_store(snapshot.files)) == []
    assert {path: path.read_bytes() for path in old_store.rglob("*") if path.is_file()} == before


def test_an_older_store_is_raised_when_it_is_written_to(old_store: Path, images: Path) -> None:
    before = logical_digest(open_store(old_store))
    files = create_store(old_store)
    assert b'"format_version": 4' in files.read("segpipe.json")
    assert logical_digest(Snapshot(files)) == before
    segment(files, refs(images), "run")
    compact(files)
    assert list(check_store(files)) == []
    assert len(Snapshot(files).dataset("images").to_table()) == 5 + 12
    etags = query(open_store(old_store), "SELECT etag, uri, count(*) OVER () AS n FROM images")
    assert set(etags["etag"].to_pylist()) == {None}
    assert set(etags["n"].to_pylist()) == {5 + 12}


def test_a_newer_store_is_refused(tmp_path: Path) -> None:
    create_store(tmp_path)
    (tmp_path / "segpipe.json").write_text('{"program": "segpipe", "format_version": 5}')
    for enter in (open_store, create_store):
        with pytest.raises(SpecError, match="store format 5; this segpipe reads 1, 2, 3, 4"):
            enter(tmp_path)


# Garbage


def test_what_is_committed_is_no_garbage(files: LocalFiles) -> None:
    compact(files)
    assert list(find_garbage(files, grace_seconds=0)) == []


def test_an_attempt_that_died_is_found_after_the_grace_period(
    files: LocalFiles, images: Path
) -> None:
    dead = Attempt(files, chunk_of(images), "run-3")
    dead.write_table("objects", empty_columns("objects"))
    assert list(find_garbage(files, grace_seconds=3600)) == []
    (found,) = find_garbage(files, grace_seconds=0)
    assert found.size > 0
    before = logical_digest(Snapshot(files))
    assert collect(files, found)
    assert list(find_garbage(files, grace_seconds=0)) == []
    assert logical_digest(Snapshot(files)) == before
    assert problems(files) == []


def test_an_attempt_of_a_live_run_is_no_garbage(files: LocalFiles, images: Path) -> None:
    Attempt(files, chunk_of(images), "run-3")
    with lease(files, "run-3"):
        assert list(find_garbage(files, grace_seconds=0)) == []
    assert len(list(find_garbage(files, grace_seconds=0))) == 1


def test_a_lease_that_is_not_renewed_ends(files: LocalFiles) -> None:
    with lease(files, "run-3"):
        path = files.root / "leases" / "run-3.json"
        assert live_runs(files) == {"run-3"}
        long_ago = path.stat().st_mtime - LEASE_SECONDS - 1
        os.utime(path, (long_ago, long_ago))
        assert live_runs(files) == set()
    assert list(files.names("leases")) == []


def test_a_run_that_says_no_more_has_died(files: LocalFiles) -> None:
    def status() -> str:
        return str(Snapshot(files).records()[-1]["status"])

    files.replace("runs/run-3/record.json", b'{"status": "running"}')
    with lease(files, "run-3"):
        assert status() == "running"
    assert status() == "died"


def test_an_attempt_that_was_swept_cannot_commit(
    files: LocalFiles, images: Path, tmp_path: Path
) -> None:
    """Should `gc` take a slow attempt for dead, work is lost, and never a result."""
    more = Chunk(SPEC.spec_id, refs(images), generation=1)

    class Slow(ThresholdSegmenter):
        def finish(self, raw, image):  # type: ignore[no-untyped-def]
            for garbage in find_garbage(files, grace_seconds=0):
                collect(files, garbage)
            return super().finish(raw, image)

    before = logical_digest(Snapshot(files))
    with pytest.raises(SweptError):
        process_chunk(more, Slow(), files, "run-3")
    assert more.chunk_id not in set(committed(files))
    assert list(files.names("staging")) == []
    assert logical_digest(Snapshot(files)) == before
    assert problems(files) == []


def test_garbage_that_is_committed_meanwhile_stays(files: LocalFiles, images: Path) -> None:
    more = Chunk(SPEC.spec_id, refs(images), generation=1)
    found = []

    class Slow(ThresholdSegmenter):
        def finish(self, raw, image):  # type: ignore[no-untyped-def]
            found[:] = find_garbage(files, grace_seconds=0)
            return super().finish(raw, image)

    process_chunk(more, Slow(), files, "run-3")
    assert [collect(files, garbage) for garbage in found] == [False]
    assert problems(files) == []
    assert more.chunk_id in Snapshot(files).chunk_ids


def test_unfinished_files_are_garbage(files: LocalFiles) -> None:
    for path in ("commits/.tmp-1", "runs/run-1/.tmp-2", ".tmp-3"):
        files.write(path, b"half")
    for garbage in find_garbage(files, grace_seconds=0):
        assert collect(files, garbage)
    assert list(files.root.rglob(".tmp-*")) == []


# Compactions


def test_a_compaction_changes_no_answer(files: LocalFiles) -> None:
    images_before, objects_before = rows(files, "images"), rows(files, "objects")
    before = logical_digest(Snapshot(files))
    made = compact(files, part_rows=10)
    assert made is not None
    snapshot = Snapshot(files)
    assert len(made.parts("images")) == len(made.parts("objects")) > 1
    assert snapshot.parts("images") == made.parts("images")
    assert (rows(files, "images"), rows(files, "objects")) == (images_before, objects_before)
    assert logical_digest(snapshot) == before
    assert problems(files) == []
    counts = query(snapshot, "SELECT (SELECT count(*) FROM images), (SELECT count(*) FROM objects)")
    assert [column.to_pylist() for column in counts] == [
        [len(images_before)],
        [len(objects_before)],
    ]


def test_every_glob_counts_once(files: LocalFiles, images: Path) -> None:
    count = len(rows(files, "objects"))
    made = compact(files)
    assert made is not None
    for glob in ("objects/*.parquet", f"{made.folder}/objects-*.parquet"):
        found = duckdb.sql(f"SELECT count(*) FROM '{files.root}/{glob}'").fetchall()
        assert found == [(count,)]


def test_parts_of_a_compaction_are_sorted_and_follow_each_other(files: LocalFiles) -> None:
    made = compact(files, part_rows=10)
    assert made is not None
    last = ""
    for path in made.parts("images"):
        table = pq.read_table(files.root / path)
        assert table.equals(table.sort_by(SORTED_BY["images"]))
        assert table.schema.field("path").metadata[b"meaning"]
        paths = table["path"].to_pylist()
        assert paths[0] > last
        last = paths[0]


def test_chunks_that_come_later_are_read_beside_a_compaction(
    files: LocalFiles, images: Path
) -> None:
    compact(files)
    again = Chunk(SPEC.spec_id, refs(images)[:2], generation=1)
    process_chunk(again, ThresholdSegmenter(), files, "run-3")
    assert len(rows(files, "images")) == 12 + 2
    compact(files)
    assert len(rows(files, "images")) == 12 + 2
    assert [made.number for made in compactions(files)] == [1, 2]
    (old,) = find_garbage(files, grace_seconds=0)
    collect(files, old)
    assert [made.number for made in compactions(files)] == [2]
    assert len(rows(files, "images")) == 12 + 2
    assert problems(files) == []


def test_an_empty_store_has_nothing_to_compact(tmp_path: Path) -> None:
    files = create_store(tmp_path)
    assert compact(files) is None
    assert list(find_garbage(files, grace_seconds=0)) == []


# Retries


def retry(files: LocalFiles, listing: tuple, run_id: str) -> list[Chunk]:
    chunks = due_chunks(Snapshot(files), 3, listing, retry=True)
    for chunk in chunks:
        process_chunk(chunk, ThresholdSegmenter(), files, run_id)
    return chunks


def test_a_retry_does_the_failed_images_and_no_other(files: LocalFiles, images: Path) -> None:
    failed = {"0/image-004.png", "1/image-009.png"}
    for number in (3, 4):  # broken they stay
        chunks = retry(files, refs(images), f"run-{number}")
        assert {ref.path for chunk in chunks for ref in chunk.images} == failed
    newest = {row["path"]: row for row in Snapshot(files).image_rows()}
    assert {newest[path]["run_id"] for path in failed} == {"run-4"}
    assert len(newest) == 12
    assert problems(files) == []


def test_two_retries_at_once_are_one(files: LocalFiles, images: Path) -> None:
    plans = [due_chunks(Snapshot(files), 3, refs(images), retry=True) for _ in range(2)]
    assert plans[0] == plans[1]
    assert {chunk.chunk_id for chunk in plans[0]}.isdisjoint(committed(files))


def test_an_image_that_was_mended_is_not_tried_again(tmp_path: Path) -> None:
    images = make_collection(tmp_path / "images", 3, broken=[0])
    broken = images / "0" / "image-000.png"
    files = create_store(tmp_path / "store")
    segment(files, refs(images), "run-1")
    stamp = broken.stat().st_mtime_ns
    broken.write_bytes((images / "0" / "image-002.png").read_bytes())
    os.utime(broken, ns=(stamp, stamp))
    (chunk,) = retry(files, refs(images), "run-2")
    assert [ref.path for ref in chunk.images] == ["0/image-000.png"]
    assert failed_ids(Snapshot(files), refs(images)) == set()
    assert retry(files, refs(images), "run-3") == []


# Forgetting


def test_a_forgotten_run_is_gone_and_the_others_stay(files: LocalFiles, images: Path) -> None:
    compact(files)
    kept = [row for row in rows(files, "images") if row["run_id"] == "run-2"]
    tombstone = plan_forgetting(files, "run-1", "consent withdrawn")
    assert (tombstone.images, len(tombstone.chunks)) == (6, 2)
    forget(files, tombstone)
    assert rows(files, "images") == kept
    assert {row["run_id"] for row in rows(files, "objects")} == {"run-2"}
    assert problems(files) == []
    left = [
        path for path in files.root.rglob("*") for chunk in tombstone.chunks if chunk in str(path)
    ]
    assert left == []
    assert b"consent withdrawn" in files.read("runs/run-1/tombstone.json")
    with pytest.raises(SpecError, match="forgotten before"):
        plan_forgetting(files, "run-1")
    # It can be done again, and then it is there again.
    assert segment(files, refs(images)[:6], "run-3")
    assert len(rows(files, "images")) == 12
    assert problems(files) == []


def test_a_run_that_works_is_not_forgotten(files: LocalFiles) -> None:
    with lease(files, "run-1"), pytest.raises(SpecError, match="still at work"):
        plan_forgetting(files, "run-1")
    with pytest.raises(SpecError, match="no run 'nonsense'"):
        plan_forgetting(files, "nonsense")


def test_a_compaction_that_begins_before_forgetting_does_not_bring_it_back(
    files: LocalFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run is forgotten between the compaction's reading and its commit."""
    import segpipe.store.compaction as module

    original = module.encode_table
    done = []

    def forget_meanwhile(table: str, found: object) -> bytes:
        if not done:
            done.append(True)
            forget(files, plan_forgetting(files, "run-1"))
        return original(table, found)

    monkeypatch.setattr(module, "encode_table", forget_meanwhile)
    with pytest.raises((SweptError, FileNotFoundError)):
        compact(files, part_rows=1)
    assert {row["run_id"] for row in rows(files, "images")} == {"run-2"}
    assert problems(files) == []


def empty_columns(table: str) -> dict[str, list]:
    from segpipe.schema import TABLES

    return {column.name: [] for column in TABLES[table]}


# Upkeep


def test_a_night_compacts_when_a_quarter_is_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compaction, "MIN_CHUNKS", 2)
    files = create_store(tmp_path / "store")
    made = []
    for night in range(1, 13):
        images = make_collection(tmp_path / "images", night)
        segment(files, refs(images)[-1:], f"run-{night:02d}", size=1)
        made.append(keep_up(files) is not None)
    chunks = len(Snapshot(files).chunk_ids)
    assert made[:2] == [False, True]
    assert 2 < sum(made) < chunks
    assert list(check_store(files)) == []


def test_upkeep_removes_replaced_copies_and_nothing_else(
    files: LocalFiles, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compaction, "MIN_CHUNKS", 1)
    compact(files)
    attempt = Attempt(files, chunk_of(images), "run-3")
    compact(files)
    for path in files.root.rglob("*"):  # all of it a week ago
        os.utime(path, (1, 1), follow_symlinks=False)
    keep_up(files)
    assert [one.number for one in compactions(files)] == [2]
    assert files.exists(layout.staging_folder(chunk_of(images).chunk_id, attempt.name))
