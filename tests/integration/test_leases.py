"""Leases: who is alive, and of two runs that would do the same work one waits."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest

from segpipe.errors import BusyError
from segpipe.records import new_run_id, partition_id
from segpipe.store import create_store, leases
from segpipe.store.files import LocalFiles
from segpipe.store.gc import collect, find_garbage
from segpipe.store.leases import LEASE_SECONDS, is_live, lease, live_runs


@pytest.fixture
def files(tmp_path: Path) -> LocalFiles:
    files = create_store(tmp_path / "store")
    assert isinstance(files, LocalFiles)
    return files


def test_of_two_runs_with_the_same_work_the_second_waits(
    files: LocalFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "LOOK_SECONDS", 0.01)
    at_work: list[str] = []
    most: list[int] = []
    ready = threading.Barrier(3)

    def work(run_id: str) -> None:
        ready.wait()
        with lease(files, run_id, work="the same", patience=60):
            at_work.append(run_id)
            most.append(len(at_work))
            at_work.remove(run_id)

    threads = [threading.Thread(target=work, args=(f"run-{n}",)) for n in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1, 1, 1]
    assert list(files.names("leases")) == []


def test_patience_has_an_end_and_other_work_is_no_obstacle(files: LocalFiles) -> None:
    with lease(files, "run-1", work="this"):
        with lease(files, "run-2", work="that", patience=0):
            pass
        with (
            pytest.raises(BusyError, match=r"run-1 on .*still does the same work"),
            lease(files, "run-2", work="this", patience=0),
        ):
            pass
        with lease(files, "run-2", work="this"):  # begins beside it
            assert live_runs(files) == {"run-1", "run-2"}
    assert list(files.names("leases")) == []


@pytest.mark.parametrize("how", ["its process has ended", "it is not renewed"])
def test_the_work_of_a_dead_run_is_taken_over(files: LocalFiles, how: str) -> None:
    ended = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"],
                           capture_output=True, text=True, check=True)  # fmt: skip
    here = how == "its process has ended"
    holder = {
        "run_id": "run-1",
        "host": socket.gethostname() if here else "elsewhere",
        "pid": int(ended.stdout),
        "work": "this",
    }
    files.replace("leases/run-1.json", json.dumps(holder).encode())
    if not here:
        path = files.root / "leases" / "run-1.json"
        long_ago = path.stat().st_mtime - LEASE_SECONDS - 1
        os.utime(path, (long_ago, long_ago))
    with lease(files, "run-2", work="this", patience=0):
        pass


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"run_id": "x", "odd": 1}'])
def test_a_lease_of_another_kind_is_no_obstacle(files: LocalFiles, content: bytes) -> None:
    files.replace("leases/x.json", content)
    with lease(files, "run-2", work="this", patience=0):
        assert live_runs(files) == {"x", "run-2"}


def test_a_partition_is_alive_as_long_as_its_run_and_its_plan_goes_with_it(
    files: LocalFiles,
) -> None:
    run_id = new_run_id(datetime.now(UTC))
    later = partition_id(run_id, 2)
    files.write(f"runs/{run_id}/record.json", b"{}")
    files.write(f"runs/{later}/plan.parquet", b"")
    with lease(files, run_id):
        live = live_runs(files)
        assert is_live(later, live)
        assert not is_live(new_run_id(datetime.now(UTC)), live)
        assert list(find_garbage(files, grace_seconds=0)) == []
    (garbage,) = find_garbage(files, grace_seconds=0)
    assert garbage.paths == (f"runs/{later}",)
    assert collect(files, garbage)
    assert list(files.names("runs")) == [run_id]
