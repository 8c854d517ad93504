"""The seam to storage keeps its word, and says so when a file system does not."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from segpipe.errors import SpecError, StoreError
from segpipe.store import create_store, open_store
from segpipe.store.files import LocalFiles
from tests.faults.injected import FailAt, faulty


@pytest.fixture
def files(tmp_path: Path) -> LocalFiles:
    return LocalFiles(tmp_path)


def test_create_is_won_once(files: LocalFiles) -> None:
    assert files.create("commits/a.json", b"first")
    assert not files.create("commits/a.json", b"second")
    assert files.read("commits/a.json") == b"first"
    assert list(files.names("commits")) == ["a.json"]


def test_write_takes_no_name_in_use(files: LocalFiles) -> None:
    files.write("a/b", b"1")
    with pytest.raises(FileExistsError):
        files.write("a/b", b"2")
    assert files.read("a/b") == b"1"


def test_replace_leaves_no_temporary_file(files: LocalFiles) -> None:
    files.replace("runs/r/record.json", b"1")
    files.replace("runs/r/record.json", b"2")
    assert files.read("runs/r/record.json") == b"2"
    assert [path.name for path in (files.root / "runs/r").iterdir()] == ["record.json"]


def test_a_stream_that_breaks_off_leaves_nothing(files: LocalFiles) -> None:
    def break_off() -> None:
        with files.stream("plan.parquet") as sink:
            sink.write(b"half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        break_off()
    assert list(files.root.iterdir()) == []


def test_publish_is_idempotent_and_keeps_the_bytes(files: LocalFiles) -> None:
    files.write("staging/part", b"bytes")
    files.publish("staging/part", "objects/part")
    files.publish("staging/part", "objects/part")
    files.remove("staging")
    files.publish("staging/part", "objects/part")
    assert files.read("objects/part") == b"bytes"
    with pytest.raises(FileNotFoundError):
        files.publish("staging/part", "objects/other")


def test_temporary_names_are_not_listed(files: LocalFiles) -> None:
    files.write("objects/.tmp-x", b"")
    files.write("objects/a.parquet", b"")
    assert list(files.names("objects")) == ["a.parquet"]
    assert list(files.names("absent")) == []


@pytest.mark.parametrize("number", [errno.EROFS, errno.ENOSPC, errno.EIO])
def test_a_file_system_that_refuses_is_named_before_any_work(tmp_path: Path, number: int) -> None:
    """Read-only, full, or without hard links: whatever operation it refuses."""
    for k in range(20):
        fault = FailAt(k, number)
        files = faulty(tmp_path, fault)
        if not refused(files):
            break
        assert fault.happened
    assert k > 4


def refused(files: LocalFiles) -> bool:
    try:
        files.probe()
    except StoreError as error:
        assert str(files.root) in str(error)
        assert "hard links" in str(error)
        return True
    return False


def test_a_healthy_file_system_passes_and_is_left_clean(files: LocalFiles) -> None:
    files.probe()
    assert list(files.root.iterdir()) == []


def test_another_programs_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(b"")
    with pytest.raises(SpecError, match="holds something else"):
        create_store(tmp_path)
    with pytest.raises(SpecError, match="is a file"):
        create_store(tmp_path / "photo.jpg")
    with pytest.raises(SpecError, match="local or shared folders only"):
        create_store("s3://bucket/store")
    assert [path.name for path in tmp_path.iterdir()] == ["photo.jpg"]


def test_a_store_of_another_format_is_refused(tmp_path: Path) -> None:
    create_store(tmp_path)
    (tmp_path / "segpipe.json").write_text('{"format_version": 3}')
    with pytest.raises(SpecError, match="store format 3; this segpipe reads 1, 2"):
        open_store(tmp_path)
    (tmp_path / "segpipe.json").write_text("{")
    with pytest.raises(SpecError, match="damaged"):
        open_store(tmp_path)
