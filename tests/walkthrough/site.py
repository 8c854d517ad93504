"""A machine with a collection, a store, and all the servers of `docs/nightly.md`."""

from __future__ import annotations

import json
import signal
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from segpipe.store import Snapshot, open_store
from tests.generated import make_collection
from tests.servers.dask import wait_for_workers
from tests.servers.postgres import Postgres
from tests.servers.prefect import prefect_environment
from tests.servers.process import answers, free_port, wait_for
from tests.walkthrough.document import Terminal

HASTE = {
    "PREFECT_WORKER_QUERY_SECONDS": "1",
    "PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS": "2",
    "PREFECT_SERVER_DEPLOYMENTS_CONCURRENCY_SLOT_WAIT_SECONDS": "2",
}
"""How often the programs look for news; a test does not wait for a minute."""

ENDED = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")

FlowRun = dict[str, Any]


@dataclass(frozen=True)
class Summary:
    """What a run's record says that it did."""

    ok: int
    failed: int
    skipped: int


class Site:
    """One machine.

    Attributes:
        terminal: runs the blocks of the document here.
        archive, store: folders.
    """

    def __init__(self, folder: Path, postgres: Postgres) -> None:
        http, dask = free_port(), free_port()
        self._api = f"http://127.0.0.1:{http}/api"
        self._dask = f"tcp://127.0.0.1:{dask}"
        self._postgres = postgres
        self._folder = folder
        self.archive, self.store = folder / "images", folder / "results"
        home = folder / "home"
        home.mkdir()
        environment = {**prefect_environment(home / ".prefect"), **HASTE, "HOME": str(home)}
        environment["COLUMNS"] = "140"  # of the tables that Prefect prints
        self.terminal = Terminal(
            replaced={
                "/srv/segpipe": str(folder),
                "$PWD/.venv/bin": str(Path(sys.executable).parent),
                "sudo -u postgres psql": "psql --dbname postgres",
                ":5432": f":{postgres.port}",
                "4200": str(http),
                "8786": str(dask),
                "2 minutes": "15 seconds",
                "unet-nuclei": "classical",
                "chunk_images = 8": "chunk_images = 1",
                "/data/images": str(self.archive),
                "/data/results": str(self.store),
            },
            environment={**environment, **postgres.environment},
            logs=folder,
        )

    # What there is to do, and what came of it.

    def add_images(self, name: str, count: int, broken: tuple[int, ...] = ()) -> None:
        make_collection(self.archive / name, count, broken)

    @property
    def snapshot(self) -> Snapshot:
        return open_store(self.store)

    @property
    def commits(self) -> int:
        return len(list(self.store.glob("commits/*.json")))

    def records(self) -> list[dict[str, Any]]:
        """The records of the runs, the oldest first."""
        paths = sorted(self.store.glob("runs/*/record.json"))
        return [json.loads(path.read_text()) for path in paths]

    def summary(self, run: int) -> Summary:
        """Of the run of that number."""
        found = self.records()[run]["summary"]
        return Summary(found["ok"], found["failed"], found["skipped"])

    def wait_for_record(self, status: str) -> None:
        """Until the last run says that it is `status`."""
        wait_for(lambda: self.records()[-1]["status"] == status, f"a run that is {status}")

    # Prefect.

    def ask(self, path: str, body: dict[str, Any] | None = None) -> Any:
        """The server's answer to a POST of `body`, or to a GET."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{self._api}/{path}", data, headers)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)

    def nights(self) -> list[FlowRun]:
        """Flow runs of the deployment, in the order of their times; those to come are last."""
        wanted = {"flows": {"name": {"any_": ["nightly"]}}}
        return self.ask("flow_runs/filter", {**wanted, "sort": "EXPECTED_START_TIME_ASC"})

    def state(self, flow_run: str) -> tuple[str, str]:
        """Type and name of the state of a flow run."""
        (found,) = self.ask("flow_runs/filter", {"flow_runs": {"id": {"any_": [flow_run]}}})
        return found["state_type"], found["state_name"]

    def wait_for_state(self, flow_run: str, *wanted: str) -> str:
        """Until its type or name is one of `wanted`."""

        def reached() -> str | None:
            with suppress(OSError):  # the server is just starting
                return next((part for part in self.state(flow_run) if part in wanted), None)
            return None

        return wait_for(reached, f"flow run {flow_run} as {wanted}")

    def trigger(self) -> str:
        """Ask for a night now; its flow run."""
        if "trigger" not in self.terminal.used:
            said = self.terminal.run("trigger")
            return next(line.split()[-1] for line in said.splitlines() if "UUID" in line)
        # What the command does, without the seconds in which it starts.
        deployment = self.ask("deployments/name/nightly/archive")["id"]
        asked = {"state": {"type": "SCHEDULED"}}
        return str(self.ask(f"deployments/{deployment}/create_flow_run", asked)["id"])

    @contextmanager
    def server(self) -> Iterator[Any]:
        with self.terminal.stays("server") as process:
            wait_for(
                lambda: answers(f"{self._api}/health"),
                "the Prefect server",
                process,
                self._folder / "server.log",
            )
            yield process

    # Dask.

    def wait_for_workers(self, count: int) -> None:
        wait_for_workers(self._dask, count)

    def wait_for_commits(self, count: int) -> None:
        wait_for(lambda: self.commits >= count, f"{count} commits")


@contextmanager
def stopped(*pids: int) -> Iterator[None]:
    """In the block these processes and all that they started stand still."""
    trees = [psutil.Process(pid) for pid in pids]
    trees += [child for tree in trees for child in tree.children(recursive=True)]
    for process in trees:
        process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        for process in trees:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGCONT)
