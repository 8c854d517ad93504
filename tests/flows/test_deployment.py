"""The deployment file is one that a real Prefect server takes, and its flow runs."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

from segpipe.store import open_store
from tests.conftest import REPOSITORY
from tests.generated import make_collection


def test_deploy_and_run(environment: dict[str, str], prefect_api: str, tmp_path: Path) -> None:
    variables = {**environment, "PREFECT_API_URL": prefect_api}
    checkout = tmp_path / "checkout"
    for folder in ("deploy", "flows"):
        shutil.copytree(REPOSITORY / folder, checkout / folder)

    def prefect(*arguments: str) -> None:
        command = [sys.executable, "-m", "prefect", "--no-prompt", *arguments]
        done = subprocess.run(
            command, cwd=checkout, env=variables, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, done.stdout + done.stderr

    prefect("work-pool", "create", "segpipe", "--type", "process")
    for name in ("collection", "again"):
        prefect("deploy", "--prefect-file", "deploy/prefect.yaml", "--name", name)
    images = make_collection(tmp_path / "images", 4)
    spec = {"source": str(images), "store": str(tmp_path / "store"), "model": "classical"}
    prefect("deployment", "run", "segment/collection", "--param", f"spec={json.dumps(spec)}")
    prefect("worker", "start", "--pool", "segpipe", "--run-once")
    (record,) = open_store(tmp_path / "store").records()
    assert record["status"] == "completed"
    assert record["summary"]["ok"] == 4
