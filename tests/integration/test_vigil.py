"""Runs that died without a word or hang are seen from outside, and told of once."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from segpipe.store import create_store, leases
from segpipe.store.files import LocalFiles
from segpipe.store.fsck import check_store
from segpipe.store.leases import LEASE_SECONDS, lease
from segpipe.store.sums import seal
from segpipe.store.vigil import remember, sightings

RUN = "20261122T030000000Z-4f1c2e"


@pytest.fixture
def files(tmp_path: Path) -> LocalFiles:
    store = create_store(tmp_path)
    assert isinstance(store, LocalFiles)
    return store


def record(files: LocalFiles, status: str, run_id: str = RUN) -> None:
    files.replace(f"runs/{run_id}/record.json", json.dumps({"status": status}).encode())
    if status != "running":
        seal(files, run_id)


@contextmanager
def idle(files: LocalFiles, run_id: str, seconds: float, waiting: bool = False) -> Iterator[None]:
    """Inside the block a run is alive that had committed nothing for so long."""
    content = {"run_id": run_id, "host": "here", "pid": 7, "waiting": waiting}
    path = f"leases/{run_id}.json"
    files.replace(path, json.dumps({**content, "idle_seconds": seconds}).encode())
    yield
    files.remove(path)


def look(files: LocalFiles, minutes: float = 30) -> list[tuple[str, str]]:
    """What is told now, and never again."""
    seen = list(sightings(files, minutes))
    remember(files, seen)
    return [(sighting.what, sighting.text) for sighting in seen]


def test_nothing_is_told_of_runs_that_work_or_have_ended(files: LocalFiles) -> None:
    record(files, "completed")
    record(files, "failed", "20261121T030000000Z-4f1c2e")
    record(files, "running", "20261123T030000000Z-4f1c2e")
    with idle(files, "20261123T030000000Z-4f1c2e", 100):
        assert look(files) == []


def test_a_run_without_a_lease_has_died_and_is_told_of_once(files: LocalFiles) -> None:
    record(files, "running")
    ((what, text),) = look(files)
    assert what == "died"
    assert RUN in text
    assert look(files) == []
    assert list(check_store(files)) == []


def test_a_run_whose_lease_ran_out_has_died(files: LocalFiles) -> None:
    record(files, "running")
    with lease(files, RUN):
        path = files.root / "leases" / f"{RUN}.json"
        long_ago = path.stat().st_mtime - LEASE_SECONDS - 1
        os.utime(path, (long_ago, long_ago))
        ((what, text),) = look(files)
    assert what == "died"
    assert f"process {os.getpid()}" in text


def test_a_run_that_lives_and_commits_nothing_is_told_of_once_for_each_stall(
    files: LocalFiles,
) -> None:
    record(files, "running")
    for seconds, told in (
        (1000, []),
        (1900, ["stalled"]),
        (2000, []),
        (5, ["moving"]),
        (9, []),
    ) * 2:
        with idle(files, RUN, seconds):
            assert [what for what, _ in look(files)] == told, seconds


def test_a_run_that_waits_for_another_does_not_hang(files: LocalFiles) -> None:
    record(files, "running")
    with idle(files, RUN, 9999, waiting=True):
        assert look(files) == []


def test_a_partition_lives_as_long_as_its_night(files: LocalFiles) -> None:
    record(files, "running", f"{RUN}-p2")
    with lease(files, RUN):
        assert look(files) == []
    ((what, text),) = look(files)
    assert what == "died"
    assert f"{RUN}-p2" in text


def test_a_lease_says_for_how_long_nothing_was_committed(
    files: LocalFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr(leases, "RENEW_SECONDS", 0.01)
    monkeypatch.setattr(leases.time, "monotonic", lambda: now[0])

    def says(seconds: float) -> None:
        """In the end: the lease is renewed in another thread."""
        while json.loads(files.read(f"leases/{RUN}.json"))["idle_seconds"] != seconds:
            pass

    with lease(files, RUN) as moved:
        says(0)
        now[0] = 160.0
        says(60)
        moved()
        says(0)


def test_a_stalled_run_that_ends_is_told_of(files: LocalFiles) -> None:
    record(files, "running")
    with idle(files, RUN, 2000):
        assert [what for what, _ in look(files)] == ["stalled"]
    record(files, "completed")
    assert look(files) == [("moving", f"run {RUN} hangs no more: it is completed")]
    assert look(files) == []


def test_what_was_not_remembered_is_told_again(files: LocalFiles) -> None:
    record(files, "running")
    assert list(sightings(files, 30)) == list(sightings(files, 30)) != []


def test_a_damaged_record_or_lease_says_nothing_and_stops_nothing(files: LocalFiles) -> None:
    files.replace(f"runs/{RUN}/record.json", b"{")
    files.replace(f"leases/{RUN}.json", b"[1]")
    record(files, "running", "20261121T030000000Z-4f1c2e")
    assert [what for what, _ in look(files)] == ["died"]
