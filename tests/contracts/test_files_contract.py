"""What every kind of storage promises, in the words of `Files`."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
import zarr

from segpipe.errors import SpecError, TransientStoreError
from segpipe.store import create_store, layout, object_readers, open_store
from segpipe.store.addresses import files_at
from segpipe.store.files import TEMPORARY, Files, SweptError
from segpipe.store.tables import encode_table
from tests.s3 import new_address

BUCKETS = {"s3": "s3://bucket", "google": "gs://bucket", "azure": "az://container"}


@pytest.fixture(params=["folder", "s3", "google", "azure"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where nothing is yet."""
    if request.param == "folder":
        return str(tmp_path / "store")
    request.getfixturevalue(request.param)
    return new_address(BUCKETS[request.param])


@pytest.fixture
def files(address: str) -> Files:
    return files_at(address)


def test_the_address_opens_the_same_files(files: Files) -> None:
    files.write("a/b", b"1")
    again = files_at(files.address)
    assert again.read("a/b") == b"1"
    assert again.address == files.address


def test_create_is_won_once(files: Files) -> None:
    assert files.create("commits/a.json", b"first")
    assert not files.create("commits/a.json", b"second")
    assert files.read("commits/a.json") == b"first"
    assert list(files.names("commits")) == ["a.json"]


@pytest.mark.parametrize("act", ["create", "commit"])
def test_of_threads_that_race_one_wins(files: Files, act: str) -> None:
    racers = 8
    for name in ("a", "b", "c"):
        start = threading.Barrier(racers)
        for number in range(racers):
            files.write(f"staging/{name}{number}", b"{}")

        def race(number: int, name: str = name, start: threading.Barrier = start) -> bool:
            start.wait()
            data = f"by {number}".encode()
            if act == "create":
                return files.create(name, data)
            return files.commit(f"staging/{name}{number}", name, data)

        with ThreadPoolExecutor(racers) as pool:
            won = list(pool.map(race, range(racers)))
        assert sum(won) == 1
        assert files.read(name) == f"by {won.index(True)}".encode()


def test_write_takes_no_name_in_use(files: Files) -> None:
    files.write("a/b", b"1")
    with pytest.raises(FileExistsError, match="a/b"):
        files.write("a/b", b"2")
    assert files.read("a/b") == b"1"


def test_commit_makes_the_file_while_there_is_a_ticket(files: Files) -> None:
    files.write("staging/1/ticket", b"{}")
    files.write("staging/2/ticket", b"{}")
    assert files.commit("staging/1/ticket", "commits/a.json", b"first, and longer than the ticket")
    assert not files.commit("staging/2/ticket", "commits/a.json", b"second")
    assert files.read("commits/a.json") == b"first, and longer than the ticket"
    assert list(files.names("commits")) == ["a.json"]


def test_nothing_is_committed_without_a_ticket(files: Files) -> None:
    with pytest.raises(SweptError, match="ticket"):
        files.commit("staging/1/ticket", "commits/a.json", b"late")
    assert not files.exists("commits/a.json")
    assert issubclass(SweptError, TransientStoreError)


def test_replace_puts_new_bytes_in_place_of_old(files: Files) -> None:
    files.replace("runs/r/record.json", b"1, the longer one")
    files.replace("runs/r/record.json", b"2")
    assert files.read("runs/r/record.json") == b"2"
    assert list(files.names("runs/r")) == ["record.json"]
    assert list(files.temporary("runs/r")) == []


def test_a_stream_appears_whole_when_it_ends(files: Files) -> None:
    block = bytes(range(256)) * 4096
    with files.stream("runs/r/plan") as sink:
        for _ in range(20):
            sink.write(block)
        assert not files.exists("runs/r/plan")
    assert files.read("runs/r/plan") == block * 20
    assert files.size("runs/r/plan") == len(block) * 20
    assert list(files.temporary("runs/r")) == []


def test_a_stream_that_breaks_off_leaves_what_was_there(files: Files) -> None:
    def break_off(path: str) -> None:
        with files.stream(path) as sink:
            sink.write(b"half")
            raise RuntimeError

    files.write("plan", b"old")
    for path in ("plan", "new"):
        with pytest.raises(RuntimeError):
            break_off(path)
    assert files.read("plan") == b"old"
    assert list(files.names("")) == ["plan"]
    assert list(files.temporary("")) == []


def test_publish_is_idempotent_and_keeps_the_bytes(files: Files) -> None:
    files.write("staging/part", b"bytes")
    files.publish("staging/part", "objects/part")
    files.publish("staging/part", "objects/part")
    files.remove("staging")
    files.publish("staging/part", "objects/part")
    assert files.read("objects/part") == b"bytes"
    with pytest.raises(FileNotFoundError, match="part"):
        files.publish("staging/part", "objects/other")
    assert list(files.names("objects")) == ["part"]


def test_what_is_published_already_stays(files: Files) -> None:
    files.write("staging/part", b"other bytes")
    files.write("objects/part", b"bytes")
    files.publish("staging/part", "objects/part")
    assert files.read("objects/part") == b"bytes"


def test_names_are_those_right_inside_without_temporary_ones(files: Files) -> None:
    files.write(f"objects/{TEMPORARY}x", b"")
    files.write("objects/a.parquet", b"")
    files.write("objects/inner/b.parquet", b"")
    files.write("objects-2/c.parquet", b"")
    assert sorted(files.names("objects")) == ["a.parquet", "inner"]
    assert list(files.temporary("objects")) == [f"{TEMPORARY}x"]
    assert sorted(files.names("")) == ["objects", "objects-2"]
    assert list(files.names("absent")) == []
    assert list(files.temporary("absent")) == []


def test_remove_takes_a_file_or_a_folder_and_nothing_else(files: Files) -> None:
    for path in ("a/1", "a/b/2", "a/b/3", "ab/4", "a.json"):
        files.write(path, b"")
    files.remove("a/b")
    assert sorted(files.names("a")) == ["1"]
    files.remove("a")
    files.remove("a")
    files.remove("absent")
    assert sorted(files.names("")) == ["a.json", "ab"]
    files.remove("a.json")
    assert sorted(files.names("")) == ["ab"]
    assert files.create("a.json", b"new")


def test_exists_says_so_of_files_and_folders(files: Files) -> None:
    files.write("a/b", b"")
    assert files.exists("a/b")
    assert files.exists("a")
    assert not files.exists("a/c")
    assert not files.exists("a/b/c")
    assert not files.exists("b")


def test_size_is_of_a_file_or_of_all_in_a_folder(files: Files) -> None:
    files.write("a/b", b"12")
    files.write("a/c/d", b"345")
    assert files.size("a/b") == 2
    assert files.size("a") == 5


def test_modified_is_when_it_was_written_last(files: Files) -> None:
    files.write("a/b", b"")
    files.replace("a/b", b"1")
    # The storage is this machine; S3 tells whole seconds.
    assert time.time() - 60 < files.modified("a/b") < time.time() + 1
    assert time.time() - 60 < files.modified("a") < time.time() + 1
    with pytest.raises(FileNotFoundError, match="absent"):
        files.modified("absent")


def test_what_is_absent_cannot_be_read(files: Files) -> None:
    with pytest.raises(FileNotFoundError, match="absent") as raised:
        files.read("absent")
    assert raised.value.strerror == "No such file or directory"


def test_sync_accepts_what_was_written(files: Files) -> None:
    files.write("a/b/c", b"")
    files.sync(["a", "a/b"])


def test_probe_passes_and_leaves_nothing(files: Files) -> None:
    files.probe()
    assert list(files.names("")) == []
    assert list(files.temporary("")) == []


@pytest.mark.parametrize("whole_bytes", [object_readers.WHOLE_BYTES, 100])
def test_arrow_reads_what_was_written(
    files: Files, whole_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(object_readers, "WHOLE_BYTES", whole_bytes)
    parts = [pa.table({"x": range(n, n + 1000), "y": ["text"] * 1000}) for n in (0, 1000)]
    for number, table in enumerate(parts):
        files.write(f"objects/{number}.parquet", encode_table("objects", table))
    paths = [f"objects/{number}.parquet" for number in range(2)]
    arrow = files.arrow()
    assert pq.read_table(paths[0], filesystem=arrow).equals(parts[0])
    assert pq.read_table(paths[1], columns=["x"], filesystem=arrow).equals(parts[1].select(["x"]))
    assert pq.ParquetFile(paths[1], filesystem=arrow).metadata.num_rows == 1000
    dataset = ds.dataset(paths, schema=parts[0].schema, format="parquet", filesystem=arrow)
    assert dataset.to_table().equals(pa.concat_tables(parts))
    assert dataset.to_table(filter=ds.field("x") > 1500).num_rows == 499
    with pytest.raises(FileNotFoundError):
        pq.read_table("absent.parquet", filesystem=arrow)


def test_zarr_reads_what_was_written(files: Files) -> None:
    memory: dict[str, zarr.core.buffer.Buffer] = {}
    array = zarr.create_array(
        zarr.storage.MemoryStore(memory), shape=(3, 64, 64), chunks=(1, 32, 32),
        shards=(2, 64, 64), dtype="u2",
    )  # fmt: skip
    array[:] = np.arange(3 * 64 * 64, dtype="u2").reshape(3, 64, 64)
    for key, data in memory.items():
        files.write(f"masks/1/{key}", data.to_bytes())
    found = zarr.open_array(files.zarr("masks/1"), mode="r")
    assert np.array_equal(found[:], array[:])
    assert np.array_equal(found[2, :10, :10], array[2, :10, :10])


def other_program(files: Files) -> None:
    files.write("photo.jpg", b"")


def newer_segpipe(files: Files) -> None:
    files.write(layout.MARKER, b'{"format_version": 99}')


def torn_marker(files: Files) -> None:
    files.write(layout.MARKER, b"{")


@pytest.mark.parametrize(
    ("owner", "message"),
    [
        (other_program, "holds something else"),
        (newer_segpipe, "store format 99; this segpipe reads"),
        (torn_marker, "damaged"),
    ],
)
def test_what_is_not_a_store_of_ours_is_left_alone(
    address: str, owner: Callable[[Files], None], message: str
) -> None:
    files = files_at(address)
    owner(files)
    before = sorted(files.names(""))
    with pytest.raises(SpecError, match=message):
        create_store(address)
    assert sorted(files.names("")) == before


def test_a_store_is_made_once_and_opened_then(address: str) -> None:
    with pytest.raises(SpecError, match="no segpipe store here"):
        open_store(address)
    create_store(address).write("images/a.parquet", b"")
    create_store(address)
    assert open_store(address).chunk_ids == ("a",)
