"""The server: 127.0.0.1, one token, until Ctrl-C."""

from __future__ import annotations

import secrets
import socket
from collections.abc import Callable

import uvicorn

from segpipe.errors import SpecError
from segpipe.viewer.app import create_app
from segpipe.viewer.viewer import Viewer

ADDRESS = "127.0.0.1"

_END_SECONDS = 2
"""For which answers that are under way may go on after Ctrl-C."""


def serve(viewer: Viewer, port: int, ready: Callable[[str], None]) -> None:
    """Answer until SIGINT or SIGTERM.

    Args:
        port: 0 for one that is free.
        ready: is called with the address to open, once it can be opened.

    Raises:
        SpecError: the port is taken, or may not be used.
    """
    token = secrets.token_urlsafe(24)
    try:
        listening = socket.create_server((ADDRESS, port))
    except OSError as error:
        raise SpecError(f"--port {port}: {error.strerror}; give another, or 0") from error
    with listening:
        port = listening.getsockname()[1]
        config = uvicorn.Config(
            create_app(viewer, token),
            log_level="warning",
            access_log=False,  # it would print the token
            server_header=False,
            ws="none",
            timeout_graceful_shutdown=_END_SECONDS,
        )
        # Connections wait in the socket's queue until the server takes them: nothing is refused.
        ready(f"http://{ADDRESS}:{port}/?token={token}")
        uvicorn.Server(config).run(sockets=[listening])
