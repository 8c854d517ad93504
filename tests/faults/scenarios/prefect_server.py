"""A real Prefect server."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.flows.conftest import answers, free_port, server


@contextmanager
def prefect_server(folder: Path) -> Iterator[tuple[subprocess.Popen[bytes], dict[str, str]]]:
    """A server with its database below `folder`, and the environment of programs that use it."""
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")},
        "PREFECT_HOME": str(folder / "prefect-home"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_CLIENT_MAX_RETRIES": "1",
    }
    port = free_port()
    command = [sys.executable, "-m", "prefect", "server", "start", "--port", str(port)]
    with server(command, folder / "prefect.log", environment) as process:
        api = f"http://127.0.0.1:{port}/api"
        while not answers(f"{api}/health"):
            if process.poll() is not None:
                raise RuntimeError((folder / "prefect.log").read_text())
            with suppress(subprocess.TimeoutExpired):
                process.wait(0.1)
        yield process, {**environment, "PREFECT_API_URL": api}
        process.kill()
