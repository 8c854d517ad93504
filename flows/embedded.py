"""A Prefect server for those who have none: on loopback, for the life of this process.

Prefect's own temporary server sits in the terminal's process group, so that Ctrl-C kills it before
the run could say that it was interrupted, and it outlives a process that is killed. This one has a
session of its own, and ends when the pipe to its parent closes, however the parent ends. It imports
what it needs while its parent does the same, and serves when it is told to.

`python -m segpipe.flows.embedded FD` is the server's side; it serves on an open socket.
"""

from __future__ import annotations

import functools
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from segpipe.errors import EngineError

if TYPE_CHECKING:
    import uvicorn

END_SECONDS = 5
"""For which a server may write down what it has been told, once its parent is gone."""

SERVE = b"serve"
"""What a parent says when it wants a server."""

START_SECONDS = 180
"""A first start makes a database, which takes a slow machine most of a minute."""


class _Server:
    """A process that imports what a server needs, and serves when it is told to."""

    def __init__(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.url = f"http://127.0.0.1:{listener.getsockname()[1]}/api"
            self._process = subprocess.Popen(  # noqa: S603 - this very module
                [sys.executable, "-m", "segpipe.flows.embedded", str(listener.fileno())],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=(listener.fileno(),),
                start_new_session=True,
                env={**os.environ, "PREFECT_UI_ENABLED": "0", "PREFECT__SERVER_EPHEMERAL": "1"},
            )

    @functools.cached_property
    def api(self) -> str:
        """URL of its API; the first call tells it to serve, and waits until it does."""
        try:
            pipe = self._process.stdin
            assert pipe is not None
            pipe.write(SERVE)
            pipe.flush()
            # The socket listens already: the answer comes when the server is ready for it.
            with urllib.request.urlopen(f"{self.url}/health", timeout=START_SECONDS):  # noqa: S310 - http
                return self.url
        except OSError as error:
            raise EngineError(
                f"the embedded Prefect server did not start: {error}; `prefect server start` shows "
                "why, and PREFECT_API_URL names a server that runs already"
            ) from error


@functools.cache
def _server() -> _Server:
    """The one of this process."""
    return _Server()


def expect_server() -> None:
    """Have a server of our own get ready, if one may be needed: `prefect_api` knows for sure."""
    if not os.environ.get("PREFECT_API_URL"):
        _server()


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
        with temporary_settings(updates={PREFECT_API_URL: _server().api}):
            yield


def _serve(descriptor: int) -> None:
    told = threading.Event()
    server: uvicorn.Server | None = None

    def heed_parent() -> None:
        """Serve when it says so; end when its end of the pipe is closed, however it ends."""
        if not sys.stdin.buffer.read(len(SERVE)):
            os._exit(0)  # nothing has begun
        told.set()
        sys.stdin.buffer.read()
        if server is not None:
            server.should_exit = True
        time.sleep(END_SECONDS)
        os._exit(1)

    threading.Thread(target=heed_parent, daemon=True).start()
    import uvicorn
    from prefect.server.api.server import create_app

    told.wait()
    config = uvicorn.Config(
        create_app, factory=True, fd=descriptor, log_level="error", lifespan="on"
    )
    server = uvicorn.Server(config)
    server.run()


if __name__ == "__main__":
    _serve(int(sys.argv[1]))
