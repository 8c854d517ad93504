"""A PostgreSQL cluster of its own, thrown away in the end; it asks for a password, as a real one.

PostgreSQL does not run as root: there it runs as `postgres`, whom its package makes, or as nobody.
"""

from __future__ import annotations

import os
import pwd
import re
import secrets
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.servers.process import free_port, server, wait_for

SETTINGS = ("fsync=off", "max_connections=50", "shared_buffers=16MB")
"""The machine does not lose power in a test; that spares it seconds."""


@dataclass(frozen=True)
class Postgres:
    """A cluster that runs.

    Attributes:
        environment: what `psql` needs to log in as its superuser.
        log: what the server says.
    """

    port: int
    environment: dict[str, str]
    log: Path

    def query(self, sql: str, database: str = "postgres") -> str:
        """What `psql` prints, without headings; fails where the server refuses."""
        command = ["psql", "-X", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", database, "-c", sql]
        variables = {**os.environ, **self.environment}
        done = subprocess.run(command, env=variables, capture_output=True, text=True, check=True)
        return done.stdout.strip()


def postgres_programs() -> Path | None:
    """The folder of `initdb` and `postgres`, or None where they are not installed."""
    debian = Path("/usr/lib/postgresql").glob("*/bin/initdb")
    newest = sorted(debian, key=lambda path: float(re.sub(r"\D", "", path.parts[-3]) or 0))
    found = newest[-1] if newest else shutil.which("initdb")
    return None if found is None or shutil.which("psql") is None else Path(found).parent


@contextmanager
def postgres_cluster(programs: Path) -> Iterator[Postgres]:
    """A cluster on loopback and on a socket in its folder; both ask for the password."""
    # Not below pytest's folder, which its user may not enter; and a socket's path is short.
    folder = Path(tempfile.mkdtemp(prefix="segpipe-postgres-"))
    try:
        yield from _running(programs, folder, secrets.token_hex(16), free_port())
    finally:
        shutil.rmtree(folder)


def _running(programs: Path, folder: Path, password: str, port: int) -> Iterator[Postgres]:
    unprivileged = _unprivileged(folder)
    data, secret, log = folder / "data", folder / "password", folder / "postgres.log"
    secret.write_text(password)
    secret.chmod(0o644)  # in a folder that is closed to all others
    access = ["--auth=scram-sha-256", f"--pwfile={secret}", "--username=postgres"]
    subprocess.run(
        [programs / "initdb", f"--pgdata={data}", "--encoding=UTF8", "--locale=C", *access],
        check=True,
        capture_output=True,
        **unprivileged,
    )
    secret.unlink()
    settings = [*SETTINGS, f"port={port}", f"unix_socket_directories={folder}"]
    settings += ["listen_addresses=127.0.0.1"]
    command = [str(programs / "postgres"), "-D", str(data)]
    command += [part for setting in settings for part in ("-c", setting)]
    login = {"PGHOST": str(folder), "PGPORT": str(port), "PGUSER": "postgres"}
    ready = [programs / "pg_isready", "-q", "-h", folder, "-p", str(port)]
    with server(command, log, dict(os.environ), **unprivileged) as process:
        wait_for(lambda: subprocess.run(ready).returncode == 0, "PostgreSQL", process, log)
        yield Postgres(port, {**login, "PGPASSWORD": password}, log)
        process.send_signal(signal.SIGINT)  # fast: SIGTERM would wait for who is still connected


def _unprivileged(folder: Path) -> dict[str, Any]:
    """Arguments of `Popen` for a user that PostgreSQL accepts, who owns `folder` from now on."""
    if os.geteuid() != 0:
        return {"cwd": folder}
    names = {user.pw_name for user in pwd.getpwall()}
    user = pwd.getpwnam("postgres" if "postgres" in names else "nobody")
    os.chown(folder, user.pw_uid, user.pw_gid)
    return {"cwd": folder, "user": user.pw_uid, "group": user.pw_gid, "extra_groups": ()}
