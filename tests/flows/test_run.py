"""The main job through the program, against a real Prefect server and real Dask processes."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from segpipe.provenance.record import FLOW_FILE
from segpipe.store import open_store
from segpipe.store.digest import logical_digest
from segpipe.store.fsck import check_store
from tests.generated import make_collection
from tests.servers.process import SEGPIPE

Program = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_collection(tmp_path_factory.mktemp("archive"), 12, broken=[4])


def summary(done: subprocess.CompletedProcess[str]) -> dict[str, object]:
    assert done.returncode == 0, done.stderr
    result: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return result


def test_run_then_again_then_more_then_retry(
    segpipe: Program, images: Path, prefect_api: str, tmp_path: Path
) -> None:
    archive = shutil.copytree(images, tmp_path / "archive")
    command = ["run", archive, "--store", tmp_path / "store", "--model", "classical"]
    command += ["--chunk-images", "5", "--json"]

    first = summary(segpipe(*command))
    assert set(first) == {
        "run_id",
        "store",
        "images",
        "ok",
        "failed",
        "skipped",
        "objects",
        "seconds",
        "images_per_second",
    }
    assert (first["images"], first["ok"], first["failed"], first["skipped"]) == (12, 11, 1, 0)

    again = summary(segpipe(*command))
    assert (again["images"], again["ok"], again["skipped"]) == (12, 0, 12)

    make_collection(archive / "new", 3)
    more = summary(segpipe(*command))
    assert (more["images"], more["ok"], more["skipped"]) == (15, 3, 12)

    broken, stamp = archive / "0" / "image-004.png", (archive / "0" / "image-004.png").stat()
    shutil.copy(archive / "0" / "image-006.png", broken)
    os.utime(broken, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    retried = summary(segpipe("retry", tmp_path / "store", "--json"))
    assert (retried["images"], retried["ok"], retried["skipped"]) == (15, 1, 14)

    snapshot = open_store(tmp_path / "store")
    assert [record["status"] for record in snapshot.records()] == ["completed"] * 4
    for record in snapshot.records():  # each says which flow led it, and keeps its source
        source = snapshot.files.read(f"runs/{record['run_id']}/{FLOW_FILE}")
        assert record["flow"]["name"] == "segment"
        assert hashlib.sha256(source).hexdigest() == record["flow"]["sha256"]
    assert all(row["status"] == "ok" for row in snapshot.image_rows())
    assert list(check_store(snapshot.files)) == []

    # The flow runs are the server's to show.
    request = urllib.request.Request(
        f"{prefect_api}/flow_runs/filter", b"{}", {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request) as answer:
        states = [run["state_type"] for run in json.load(answer)]
    assert states.count("COMPLETED") >= 3


def test_on_an_existing_dask_cluster(
    segpipe: Program, images: Path, dask_address: str, tmp_path: Path
) -> None:
    common = ["run", images, "--model", "classical", "--json"]
    done = summary(segpipe(*common, "--store", tmp_path / "far", "--dask-address", dask_address))
    assert done["ok"] == 11
    summary(segpipe(*common, "--store", tmp_path / "near", "--workers", "2"))
    digests = {logical_digest(open_store(tmp_path / name)) for name in ("far", "near")}
    assert len(digests) == 1


def test_kill_9_in_the_middle_then_again(
    segpipe: Program, environment: dict[str, str], prefect_api: str, tmp_path: Path
) -> None:
    archive = make_collection(tmp_path / "archive", 30)
    command = ["run", archive, "--model", "classical", "--chunk-images", "1", "--json"]
    summary(segpipe(*command, "--store", tmp_path / "undisturbed"))

    store = tmp_path / "store"
    variables = {**environment, "PREFECT_API_URL": prefect_api}
    killed = subprocess.Popen(
        [*SEGPIPE, *map(str, command), "--store", str(store)],
        env=variables,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while len(list(store.glob("commits/*.json"))) < 5:
        assert killed.poll() is None
    killed.kill()
    assert killed.wait() == -signal.SIGKILL

    before = {path.name: path.read_bytes() for path in store.glob("commits/*.json")}
    resumed = summary(segpipe(*command, "--store", store))
    assert resumed["skipped"] >= 5  # type: ignore[operator]
    after = {path.name: path.read_bytes() for path in store.glob("commits/*.json")}
    assert before.items() <= after.items()
    assert len(after) == 30
    assert list(check_store(open_store(store).files)) == []
    assert logical_digest(open_store(store)) == logical_digest(open_store(tmp_path / "undisturbed"))


def test_ctrl_c_in_a_terminal(environment: dict[str, str], tmp_path: Path) -> None:
    """Every process of the terminal gets it: the run, its workers, its embedded server."""
    archive = make_collection(tmp_path / "archive", 60)
    store = tmp_path / "store"
    command = [*SEGPIPE, "run", str(archive), "--store", str(store), "--model", "classical"]
    running = subprocess.Popen(
        [*command, "--chunk-images", "1"],
        env={**environment, "PREFECT_HOME": str(tmp_path / "prefect-home")},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    while len(list(store.glob("commits/*.json"))) < 2:
        assert running.poll() is None
    os.killpg(running.pid, signal.SIGINT)
    _, errors = running.communicate(timeout=60)
    assert running.returncode == 130
    assert errors.splitlines()[-1] == "segpipe: interrupted; run the same command again to go on"
    assert "Traceback" not in errors
    (record,) = open_store(store).records()
    assert record["status"] == "interrupted"


def test_exit_codes(segpipe: Program, images: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"

    def code(*arguments: str | Path) -> tuple[int, str]:
        done = segpipe(*arguments)
        return done.returncode, done.stderr

    run = ["run", images, "--store", store, "--model", "classical"]
    status, message = code(*run, "--max-failed", "0.01")
    assert status == 3
    assert "1 of 12 images failed" in message

    classical = ["--store", store, "--model", "classical"]
    empty = tmp_path / "empty"
    empty.mkdir()
    for wrong, says in [
        (["run", tmp_path / "absent", *classical], "absent"),
        (["run", empty, *classical], "empty"),
        (["run", images, "--store", store, "--model", "nonsense"], "classical"),
        (["run", images, "--store", images, "--model", "classical"], "holds something else"),
        (["run", images, "--store", store, "--chunk-images", "0"], "chunk_images"),
        (["query", tmp_path, "SELECT 1"], "no segpipe store"),
        (["query", store, "SELECT nonsense FROM images"], "nonsense"),
        (["query", store, "DROP TABLE images"], "SELECT"),
        (["overlay", store, "absent.png", "--out", tmp_path / "a.png"], "absent.png"),
        (["nonsense"], "nonsense"),
    ]:
        status, message = code(*wrong)
        assert status == 2, (wrong, message)
        assert says in message, (wrong, message)
        assert "Traceback" not in message

    dead = [*run, "--dask-address", "tcp://127.0.0.1:9", "--chunk-images", "3"]
    make_collection(images / "more", 1)
    status, message = code(*dead)
    assert status == 1
    assert "127.0.0.1:9" in message
