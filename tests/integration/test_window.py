"""The window of chunks on a real scheduler: how large it is, with workers that come and go."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import cloudpickle
import pytest
from distributed import Client, LocalCluster, get_worker

from segpipe.clusters import Local
from segpipe.engine import (
    Demand,
    Patience,
    Staff,
    Work,
    connect,
    equipped,
    existing_cluster,
    local_cluster,
    run_chunks,
)
from segpipe.engine.window import IN_FLIGHT
from segpipe.errors import EngineError
from segpipe.pipeline import Care
from segpipe.records import Chunk, Commit, ImageRef
from segpipe.store import create_store
from tests.generated import SPEC
from tests.servers.process import server

# The workers do not have the tests.
cloudpickle.register_pickle_by_value(sys.modules[__name__])


@contextmanager
def in_this_process(workers: int) -> Iterator[Client]:
    """A scheduler and workers like any others, without the time that messages between take."""
    with (
        LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            processes=False,
            dashboard_address="127.0.0.1:0",
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        yield client


def work(store: Path) -> Work:
    create_store(store)
    return Work("run", str(store), SPEC, None, 1)


def numbered(count: int) -> Iterator[Chunk]:
    for number in range(count):
        yield Chunk(SPEC.spec_id, (ImageRef(f"file:///{number}", str(number), 1, 1),))


def trivial(chunk: Chunk, care: Care) -> Commit:
    return Commit(chunk.chunk_id, chunk.spec_id, "run", f"{care.careful}", 1, 1, 0, {}, {})


@dataclass(frozen=True)
class Look:
    """What the scheduler has, at the moment that a commit comes back."""

    workers: int
    tasks: int


def looks(staff: Staff, chunks: Iterator[Chunk]) -> Iterator[Look]:
    scheduler = staff.client.cluster.scheduler
    for _ in run_chunks(staff, chunks, trivial):
        yield Look(len(scheduler.workers), len(scheduler.tasks))


def test_thousands_of_chunks_never_enlarge_the_scheduler(tmp_path: Path) -> None:
    taken, done = 0, 0

    def counted() -> Iterator[Chunk]:
        nonlocal taken
        for chunk in numbered(2000):
            taken += 1
            yield chunk

    with in_this_process(2) as client, equipped(client, work(tmp_path / "store")) as staff:
        for done, look in enumerate(looks(staff, counted()), 1):
            assert look.workers == 2
            assert look.tasks <= 2 * IN_FLIGHT
            assert taken - done < 2 * IN_FLIGHT
        assert done == 2000
        while client.cluster.scheduler.tasks:  # the last word may still be on its way
            client.scheduler_info(n_workers=0)


def test_a_run_begins_without_workers_and_its_window_grows_as_they_come(tmp_path: Path) -> None:
    demand, seen = Demand(), []
    cluster = Local(minimum=0, maximum=2, cores=1, memory_gb=1)
    with connect(cluster, demand) as client:
        scheduler = client.cluster.scheduler
        assert not scheduler.workers

        def until_both_have_come() -> Iterator[Chunk]:
            for chunk in numbered(1_000_000):
                yield chunk
                if len(scheduler.workers) == 2:
                    break
            yield from (Chunk(SPEC.spec_id, each.images, 1) for each in numbered(20))

        with equipped(client, work(tmp_path / "store"), demand=demand) as staff:
            seen.extend(looks(staff, until_both_have_come()))
            assert all(look.tasks <= IN_FLIGHT * max(1, look.workers) for look in seen)
            assert max(look.tasks for look in seen) == 2 * IN_FLIGHT
            while sum(kind.workers for kind in staff.kinds) < 2:  # its word may be on its way
                client.scheduler_info(n_workers=0)
            assert sum(kind.workers for kind in staff.kinds) == 2
        while scheduler.workers:  # with nothing left to do they go
            client.scheduler_info(n_workers=0)


def test_a_worker_that_leaves_with_a_word_is_no_death(tmp_path: Path) -> None:
    told, held = tmp_path / "told", tmp_path / "held"
    os.mkfifo(told)
    os.mkfifo(held)
    gate = os.open(held, os.O_RDWR)  # what opens it waits until something is written

    def hold_the_first(chunk: Chunk, care: Care) -> Commit:
        if chunk.images[0].path == "0" and told.exists():
            told.write_text(get_worker().address)
            with held.open("rb") as waiting:
                waiting.read(1)
        return trivial(chunk, care)

    with local_cluster(2) as client, equipped(client, work(tmp_path / "store")) as staff:

        def send_it_away() -> None:
            address = told.read_text()
            told.unlink()
            client.retire_workers([address])
            os.write(gate, b"x")

        helper = threading.Thread(target=send_it_away)
        helper.start()
        commits = list(run_chunks(staff, numbered(20), hold_the_first))
        helper.join()
    os.close(gate)
    assert len(commits) == 20
    assert {commit.attempt for commit in commits} == {"False"}, "no chunk was run with care"


def test_a_run_whose_workers_have_all_left_gives_up_in_time(tmp_path: Path) -> None:
    patience = Patience(0.1, "the lab", "start some")

    def send_all_away(client: Client, staff: Staff) -> None:
        for _ in run_chunks(staff, numbered(100), trivial):
            client.cluster.scale(0)

    with (
        local_cluster(1) as client,
        equipped(client, work(tmp_path / "store"), patience) as staff,
        pytest.raises(EngineError, match=r"the lab: no worker for 0\.1 seconds; start some"),
    ):
        send_all_away(client, staff)


def test_a_scheduler_that_never_had_workers_is_given_up_too(tmp_path: Path) -> None:
    with (
        LocalCluster(n_workers=0, dashboard_address="127.0.0.1:0") as cluster,
        existing_cluster(cluster.scheduler_address) as client,
        equipped(client, work(tmp_path / "store"), Patience(0.0)) as staff,
        pytest.raises(EngineError, match="no worker for 0 seconds"),
    ):
        next(run_chunks(staff, numbered(3), trivial))


def test_a_worker_with_another_version_is_refused(tmp_path: Path) -> None:
    other = tmp_path / "other" / "segpipe-9.9.dist-info"
    other.mkdir(parents=True)
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: segpipe\nVersion: 9.9\n")
    with LocalCluster(n_workers=0, dashboard_address="127.0.0.1:0") as cluster:
        # -P: the folder of the checkout, where an installation may have left a version, is no path.
        command = [sys.executable, "-P", "-m", "dask", "worker", cluster.scheduler_address]
        command += ["--no-dashboard", "--no-nanny", "--local-directory", str(tmp_path)]
        environment = {**os.environ, "PYTHONPATH": str(other.parent)}
        with (
            server(command, tmp_path / "log", environment) as process,
            Client(cluster.scheduler_address, set_as_default=False) as client,
        ):
            client.wait_for_workers(1, timeout=60)
            with (
                pytest.raises(EngineError, match=r"has segpipe 9\.9, and this run is of segpipe 0"),
                equipped(client, work(tmp_path / "store")),
            ):
                pass
            process.kill()
