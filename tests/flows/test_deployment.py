"""The deployment file is one that a real Prefect server takes, and its flows run."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from segpipe.deployment.collection_file import collection_toml
from segpipe.store import open_store
from tests.conftest import REPOSITORY
from tests.generated import make_collection

Prefect = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`deploy/` as it is in the repository, but for a collection that exists."""
    folder = tmp_path_factory.mktemp("checkout")
    shutil.copytree(REPOSITORY / "deploy", folder / "deploy")
    images = make_collection(folder / "images", 4)
    values = {"source": str(images), "store": str(folder / "store"), "model": "classical"}
    (folder / "deploy" / "collection.toml").write_text(collection_toml("collection", values))
    return folder


@pytest.fixture(scope="module")
def prefect(environment: dict[str, str], prefect_api: str, checkout: Path) -> Prefect:
    variables = {**environment, "PREFECT_API_URL": prefect_api}

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "prefect", "--no-prompt", *arguments]
        return subprocess.run(
            command, cwd=checkout, env=variables, capture_output=True, text=True, timeout=120
        )

    deployed = run("work-pool", "create", "segpipe", "--type", "process", "--overwrite")
    assert deployed.returncode == 0, deployed.stdout
    deployed = run("deploy", "--prefect-file", "deploy/prefect.yaml", "--all")
    assert deployed.returncode == 0, deployed.stdout + deployed.stderr
    return run


def test_a_night_runs(prefect: Prefect, checkout: Path) -> None:
    for arguments in (
        ("deployment", "run", "nightly/collection"),
        ("worker", "start", "--pool", "segpipe", "--run-once"),
    ):
        done = prefect(*arguments)
        assert done.returncode == 0, done.stdout + done.stderr
    (record,) = open_store(checkout / "store").records()
    assert record["status"] == "completed"
    assert record["summary"]["ok"] == 4


def test_a_wrong_parameter_is_refused_before_any_work_starts(prefect: Prefect) -> None:
    spec = json.dumps({"source": "/a", "store": "/b", "modle": "classical"})
    done = prefect("deployment", "run", "nightly/collection", "--param", f"spec={spec}")
    assert done.returncode != 0
    assert "'modle' was unexpected" in done.stdout


def test_a_wrong_collection_file_is_not_deployed(prefect: Prefect, checkout: Path) -> None:
    path = checkout / "deploy" / "collection.toml"
    good = path.read_text()
    path.write_text('modle = "classical"\n' + good)
    done = prefect("deploy", "--prefect-file", "deploy/prefect.yaml", "--all")
    path.write_text(good)
    assert done.returncode != 0
    assert "unknown key 'modle'" in " ".join((done.stdout + done.stderr).split())


def test_the_collection_file_in_the_repository_is_as_segpipe_writes_it() -> None:
    values = {"source": "/data/images", "store": "/data/results", "model": "unet-nuclei"}
    written = (REPOSITORY / "deploy" / "collection.toml").read_text()
    assert written == collection_toml("collection", values)
