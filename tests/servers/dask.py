"""A Dask scheduler, and workers; each is a process."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from distributed import Client

from tests.servers.process import free_port, server

DASK = [sys.executable, "-m", "dask"]


@contextmanager
def dask_scheduler(
    folder: Path, environment: dict[str, str]
) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """A scheduler on loopback, and its address."""
    port = str(free_port())
    command = [*DASK, "scheduler", "--host", "127.0.0.1", "--port", port, "--no-dashboard"]
    with server(command, folder / "scheduler.log", environment) as process:
        yield process, f"tcp://127.0.0.1:{port}"


@contextmanager
def dask_worker(
    folder: Path, address: str, environment: dict[str, str], *options: str, name: str = "worker"
) -> Iterator[subprocess.Popen[bytes]]:
    command = [*DASK, "worker", address, "--no-dashboard", "--local-directory", str(folder)]
    with server([*command, *options], folder / f"{name}.log", environment) as process:
        yield process


def wait_for_workers(address: str, count: int) -> None:
    with Client(address, timeout="60s", set_as_default=False) as client:
        client.wait_for_workers(count, timeout=60)
