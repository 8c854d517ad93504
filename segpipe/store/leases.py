"""Who is alive: a run renews a small file of its own while it works.

Nothing that must be right depends on it. A lease keeps `gc` from clearing away the attempts of a
run that works, and tells a run that died without a word from one that is still going on.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from segpipe.errors import StoreError
from segpipe.store import layout
from segpipe.store.files import TEMPORARY, Files

RENEW_SECONDS = 60.0
LEASE_SECONDS = 600.0
"""A run that has not renewed its lease for this long is taken for dead."""


@contextmanager
def lease(files: Files, run_id: str) -> Iterator[None]:
    """Inside the block the run is alive for others; a thread renews its lease."""
    path = layout.lease_file(run_id)
    holder = {"run_id": run_id, "host": socket.gethostname(), "pid": os.getpid()}
    content = json.dumps(holder).encode()
    ended = threading.Event()

    def renew() -> None:
        while not ended.wait(RENEW_SECONDS):
            try:
                files.replace(path, content)
            except (OSError, StoreError) as error:  # a full disk, say; the next time may do
                logging.getLogger(__name__).warning("%s: not renewed: %s", path, error)

    files.replace(path, content)
    renewing = threading.Thread(target=renew, name="segpipe-lease", daemon=True)
    renewing.start()
    try:
        yield
    finally:
        ended.set()
        renewing.join()
        files.remove(path)


def live_runs(files: Files, now: float | None = None) -> set[str]:
    """The runs that are at work; `now` as from `storage_time`, or else by this machine's clock."""
    now = time.time() if now is None else now
    paths = [f"{layout.LEASES}/{name}" for name in files.names(layout.LEASES)]
    alive = [path for path in paths if now - _modified(files, path) < LEASE_SECONDS]
    return {path.rpartition("/")[2].removesuffix(".json") for path in alive}


def storage_time(files: Files) -> float:
    """Seconds by the clock that also stamps the files, whatever the clock of this machine says."""
    probe = f"{TEMPORARY}clock-{secrets.token_hex(8)}"
    try:
        files.write(probe, b"")
        return files.modified(probe)
    finally:
        files.remove(probe)


def _modified(files: Files, path: str) -> float:
    try:
        return files.modified(path)
    except FileNotFoundError:  # the run has just ended
        return float("-inf")
