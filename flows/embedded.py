"""A Prefect server for those who have none: on loopback, for the life of this process.

Prefect's own temporary server sits in the terminal's process group, so that Ctrl-C kills it before
the run could say that it was interrupted, and it outlives a process that is killed. This one has a
session of its own, and ends when the pipe to its parent closes, however the parent ends.

`python -m segpipe.flows.embedded FD` is the server's side; it serves on an open socket.
"""

from __future__ import annotations

import atexit
import functools
import os
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

from segpipe.errors import EngineError

START_SECONDS = 180
"""A first start makes a database, which takes a slow machine most of a minute."""


@contextmanager
def prefect_api() -> Iterator[None]:
    """Inside the block Prefect has an API: the one that is configured, or else our own.

    Raises:
        EngineError: our own server did not start.
    """
    from prefect.settings import PREFECT_API_URL, temporary_settings

    if PREFECT_API_URL.value():
        yield
    else:
        with temporary_settings(updates={PREFECT_API_URL: _start()}):
            yield


@functools.cache
def _start() -> str:
    """Start the server, once in the life of this process; returns the URL of its API."""
    listener = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{listener.getsockname()[1]}/api"
    process = subprocess.Popen(  # noqa: S603 - this very module
        [sys.executable, "-m", "segpipe.flows.embedded", str(listener.fileno())],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        pass_fds=(listener.fileno(),),
        start_new_session=True,
        env={**os.environ, "PREFECT_UI_ENABLED": "0", "PREFECT__SERVER_EPHEMERAL": "1"},
    )
    listener.close()
    atexit.register(_stop, process)
    try:
        # The socket listens already: the answer comes when the server is ready for it.
        with urllib.request.urlopen(f"{url}/health", timeout=START_SECONDS):  # noqa: S310 - http
            return url
    except OSError as error:
        raise EngineError(
            f"the embedded Prefect server did not start: {error}; `prefect server start` shows "
            "why, and PREFECT_API_URL names a server that runs already"
        ) from error


def _stop(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin is not None
    process.stdin.close()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _serve(descriptor: int) -> None:
    import uvicorn

    config = uvicorn.Config(
        "prefect.server.api.server:create_app",
        factory=True,
        fd=descriptor,
        log_level="error",
        lifespan="on",
    )
    server = uvicorn.Server(config)

    def watch_parent() -> None:
        sys.stdin.buffer.read()
        server.should_exit = True

    threading.Thread(target=watch_parent, daemon=True).start()
    server.run()


if __name__ == "__main__":
    _serve(int(sys.argv[1]))
