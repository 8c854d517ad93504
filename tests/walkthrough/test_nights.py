"""Nights of one archive, on real servers: what each does, and what the next one finds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from subprocess import Popen
from zoneinfo import ZoneInfo

import pytest

from segpipe.store.fsck import check_store
from tests.walkthrough.site import ENDED, Site, Summary, stopped

BY_HAND = {"packages"}
"""Blocks of the document that change the machine."""


@dataclass
class Servers:
    """What runs beside the Prefect server; `prefect` holds that one, which is stopped once."""

    prefect: ExitStack
    workers: list[Popen[bytes]]


@contextmanager
def started(site: Site) -> Iterator[Servers]:
    """All that the document has running by the time of the first night."""
    with ExitStack() as running:
        site.terminal.run("database")
        prefect = running.enter_context(ExitStack())
        prefect.enter_context(site.server())
        site.terminal.run("deploy")
        site.terminal.run("schedule")
        running.enter_context(site.terminal.stays("scheduler"))
        workers = [
            running.enter_context(site.terminal.stays("worker", f"worker-{number}"))
            for number in range(2)
        ]
        running.enter_context(site.terminal.stays("pool-worker"))
        site.wait_for_workers(2)
        assert "nothing is missing" in site.terminal.run("check")
        yield Servers(prefect, workers)


@pytest.mark.timeout(600)
def test_nights_with_new_images_and_deaths(site: Site) -> None:
    site.add_images("first", 10, broken=(4,))
    with started(site) as servers:
        a_night_by_schedule(site)
        two_at_once_and_a_worker_dies(site, servers.workers[0])
        the_server_is_stopped_and_comes_back(site, servers)
        a_night_is_cancelled_and_the_next_goes_on(site, servers.workers[1])
    statuses = [record["status"] for record in site.records()]
    assert statuses.count("interrupted") == 1
    assert set(statuses) == {"completed", "interrupted"}
    rows = [(row["path"], row["status"]) for row in site.snapshot.image_rows()]
    assert len(rows) == len(set(rows)) == 10 + 12 + 8 + 8
    assert [path for path, status in rows if status != "ok"] == ["first/0/image-004.png"]
    assert site.terminal.used | BY_HAND == set(site.terminal.blocks)


def a_night_by_schedule(site: Site) -> None:
    in_berlin = {
        datetime.fromisoformat(night["expected_start_time"]).astimezone(ZoneInfo("Europe/Berlin"))
        for night in site.nights()
    }
    assert (2, 0) in {(time.hour, time.minute) for time in in_berlin}

    night = site.nights()[0]
    assert night["auto_scheduled"]
    assert site.wait_for_state(night["id"], *ENDED) == "COMPLETED"
    assert site.summary() == Summary(ok=9, failed=1, skipped=0)
    said = site.terminal.run("look")
    assert [word for word in ("COMPLETED", "failed", "all is well") if word not in said] == []
    (workers,) = site.records()[0]["workers"]
    assert (workers["workers"], workers["threads"]) == (2, 1)
    assert workers["environment"]["MALLOC_TRIM_THRESHOLD_"] == str(1 << 30)


def two_at_once_and_a_worker_dies(site: Site, worker: Popen[bytes]) -> None:
    """The second night waits for the first, and finds nothing to do."""
    site.add_images("second", 12)
    commits = site.commits
    first, second = site.trigger(), site.trigger()
    site.wait_for_commit(commits)
    worker.kill()  # a nanny; its worker goes with it
    site.wait_for_state(second, "AwaitingConcurrencySlot")
    assert site.wait_for_state(first, *ENDED) == "COMPLETED"
    assert site.summary() == Summary(ok=12, failed=0, skipped=10)
    assert site.wait_for_state(second, *ENDED) == "COMPLETED"
    assert site.summary() == Summary(ok=0, failed=0, skipped=22)


def the_server_is_stopped_and_comes_back(site: Site, servers: Servers) -> None:
    """The night goes on without it, and tells it in the end; what was there before is there."""
    before = {night["id"] for night in site.nights()}
    site.add_images("third", 8)
    commits = site.commits
    night = site.trigger()
    site.wait_for_commit(commits)
    with stopped(servers.workers[1].pid):  # else the night may be over before the server is gone
        servers.prefect.close()
    servers.prefect.enter_context(site.server())
    assert site.wait_for_state(night, *ENDED) == "COMPLETED"
    assert site.summary() == Summary(ok=8, failed=0, skipped=22)
    assert before < {night["id"] for night in site.nights()}


def a_night_is_cancelled_and_the_next_goes_on(site: Site, worker: Popen[bytes]) -> None:
    site.add_images("fourth", 8)
    commits = site.commits
    night = site.trigger()
    site.wait_for_commit(commits)
    with stopped(worker.pid):  # else the night may be over before it is cancelled
        site.terminal.run("cancel", {"FLOW_RUN_ID": night})
        site.wait_for_record("interrupted")
    assert site.wait_for_state(night, *ENDED) == "CANCELLED"
    assert list(check_store(site.snapshot.files)) == []

    # A chunk that was at work when the night was cancelled may have been committed after.
    left = 10 + 12 + 8 + 8 - site.commits
    assert 0 < left < 8
    assert site.wait_for_state(site.trigger(), *ENDED) == "COMPLETED"
    assert site.summary().failed == 0
    assert site.commits == 38
    assert list(check_store(site.snapshot.files)) == []
