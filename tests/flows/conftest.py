"""Real servers, started once: Prefect, and a Dask scheduler with a worker."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from prefect.settings import PREFECT_API_URL, PREFECT_HOME, temporary_settings

from tests.flows.receivers import Receiver, web_receiver
from tests.servers.dask import dask_scheduler, dask_worker, wait_for_workers
from tests.servers.prefect import prefect_environment, prefect_server
from tests.servers.process import SEGPIPE


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Environment of programs under test: a Prefect home of its own, no profile of the user's."""
    return prefect_environment(tmp_path_factory.mktemp("prefect-home"))


@pytest.fixture(scope="session")
def prefect_api(
    environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """URL of a Prefect server in a process of its own."""
    log = tmp_path_factory.mktemp("logs") / "prefect.log"
    with prefect_server(environment, log) as (_, variables):
        yield variables["PREFECT_API_URL"]


@pytest.fixture(scope="session")
def dask_address(
    environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """Address of a `dask scheduler` with one `dask worker`, each a process."""
    logs = tmp_path_factory.mktemp("logs")
    with (
        dask_scheduler(logs, environment) as (_, address),
        dask_worker(logs, address, environment, "--nthreads", "2"),
    ):
        wait_for_workers(address, 1)
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


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """Somebody who is told."""
    with web_receiver() as found:
        yield found


@pytest.fixture
def here(prefect_api: str, environment: dict[str, str]) -> Iterator[None]:
    """In this process `prefect` means the server of the tests."""
    with temporary_settings(
        {PREFECT_API_URL: prefect_api, PREFECT_HOME: environment["PREFECT_HOME"]}
    ):
        yield
