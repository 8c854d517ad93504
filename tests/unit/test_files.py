"""A folder as a store: what its file system must be able to do, and who says so if it cannot.

What every kind of storage promises is in `tests/contracts/test_files_contract.py`.
"""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from segpipe.errors import SpecError, StoreError
from segpipe.store import create_store, open_store
from segpipe.store.disk import Disk
from segpipe.store.files import LocalFiles
from tests.faults.injected import FailAt, faulty


@pytest.fixture
def files(tmp_path: Path) -> LocalFiles:
    return LocalFiles(tmp_path)


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
    assert [path.name for path in tmp_path.iterdir()] == ["photo.jpg"]


def test_a_store_of_another_format_is_refused(tmp_path: Path) -> None:
    create_store(tmp_path)
    (tmp_path / "segpipe.json").write_text('{"format_version": 5}')
    with pytest.raises(SpecError, match="store format 5; this segpipe reads 1, 2, 3, 4"):
        open_store(tmp_path)
    (tmp_path / "segpipe.json").write_text("{")
    with pytest.raises(SpecError, match="damaged"):
        open_store(tmp_path)


class LinklessDisk(Disk):
    """As exFAT or some network file systems: no hard links."""

    def link(self, source: Path, target: Path) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM), str(source))


class CarelessDisk(LinklessDisk):
    """A rename that replaces, whatever it was asked for."""

    def rename_new(self, source: Path, target: Path) -> None:
        source.replace(target)


def test_without_hard_links_a_rename_that_never_replaces_does(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    files = LocalFiles(tmp_path, LinklessDisk())
    files.probe()
    assert "no hard links here" in caplog.text
    files.write("staging/ticket", b"")
    files.write("staging/late", b"")
    assert files.commit("staging/ticket", "commits/a.json", b"first")
    assert not files.commit("staging/late", "commits/a.json", b"second")
    assert not files.create("commits/a.json", b"third")
    assert files.read("commits/a.json") == b"first"
    files.write("staging/part", b"bytes")
    files.publish("staging/part", "objects/part")
    files.publish("staging/part", "objects/part")
    assert files.read("objects/part") == b"bytes"


def test_a_file_system_that_replaces_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="replaces files that it should not"):
        LocalFiles(tmp_path, CarelessDisk()).probe()
    assert list(tmp_path.iterdir()) == []


def test_a_place_without_room_is_refused_before_any_work(tmp_path: Path) -> None:
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "segpipe-test", str(tmp_path)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("this user may not mount a small file system")
    try:
        with pytest.raises(StoreError, match="bytes are free; at least 67,108,864 are needed"):
            LocalFiles(tmp_path).probe()
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)
