"""A Prefect server."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.servers.process import answers, free_port, server, wait_for


def prefect_environment(home: Path) -> dict[str, str]:
    """Environment of programs under test: a Prefect home of its own, no profile of the user's."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    return {**kept, "PREFECT_HOME": str(home), "PREFECT_SERVER_ANALYTICS_ENABLED": "false"}


@contextmanager
def prefect_server(
    environment: dict[str, str], log: Path
) -> Iterator[tuple[subprocess.Popen[bytes], dict[str, str]]]:
    """A server with its database in the Prefect home, and the environment of its users."""
    port = free_port()
    command = [sys.executable, "-m", "prefect", "server", "start", "--port", str(port), "--no-ui"]
    with server(command, log, environment) as process:
        api = f"http://127.0.0.1:{port}/api"
        wait_for(lambda: answers(f"{api}/health"), "the Prefect server", process, log)
        yield process, {**environment, "PREFECT_API_URL": api}


@contextmanager
def impatient_prefect(folder: Path) -> Iterator[tuple[subprocess.Popen[bytes], dict[str, str]]]:
    """A server below `folder` whose users call it once more at most; it is killed in the end."""
    environment = {
        **prefect_environment(folder / "prefect-home"),
        "PREFECT_CLIENT_MAX_RETRIES": "1",
    }
    with prefect_server(environment, folder / "prefect.log") as (process, variables):
        yield process, variables
        process.kill()
