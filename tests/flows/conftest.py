"""Real servers, started once: Prefect, and a Dask scheduler with a worker."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from distributed import Client

SEGPIPE = [sys.executable, "-m", "segpipe"]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def server(
    command: list[str], log: Path, environment: dict[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as sink:
        process = subprocess.Popen(command, stdout=sink, stderr=sink, env=environment)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Environment of programs under test: a Prefect home of its own, no profile of the user's."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("PREFECT_")}
    home = tmp_path_factory.mktemp("prefect-home")
    return {**kept, "PREFECT_HOME": str(home), "PREFECT_SERVER_ANALYTICS_ENABLED": "false"}


@pytest.fixture(scope="session")
def prefect_api(
    environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """URL of a Prefect server in a process of its own."""
    port = free_port()
    api = f"http://127.0.0.1:{port}/api"
    command = [sys.executable, "-m", "prefect", "server", "start", "--port", str(port)]
    log = tmp_path_factory.mktemp("logs") / "prefect.log"
    with server(command, log, environment) as process:
        while not answers(f"{api}/health"):
            assert process.poll() is None, log.read_text()
        yield api


@pytest.fixture(scope="session")
def dask_address(
    environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """Address of a `dask scheduler` with one `dask worker`, each a process."""
    logs = tmp_path_factory.mktemp("logs")
    address = f"tcp://127.0.0.1:{free_port()}"
    dask = [sys.executable, "-m", "dask"]
    host, port = address.removeprefix("tcp://").split(":")
    scheduler = [*dask, "scheduler", "--host", host, "--port", port, "--no-dashboard"]
    worker = [*dask, "worker", address, "--nthreads", "2", "--no-dashboard"]
    worker += ["--local-directory", str(logs)]
    with (
        server(scheduler, logs / "scheduler.log", environment),
        server(worker, logs / "worker.log", environment),
    ):
        with Client(address, timeout="60s", set_as_default=False) as client:
            client.wait_for_workers(1, timeout=60)
        yield address


@pytest.fixture
def segpipe(
    environment: dict[str, str], prefect_api: str
) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run the `segpipe` program against the real Prefect server."""
    variables = {**environment, "PREFECT_API_URL": prefect_api}

    def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
        command = [*SEGPIPE, *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, env=variables, timeout=240)

    return run


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=1) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
