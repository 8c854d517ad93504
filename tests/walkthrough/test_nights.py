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
        next_night = a_worker_dies_and_the_next_night_waits(site, servers.workers)
        the_server_is_stopped_and_comes_back(site, servers, next_night)
        a_night_is_cancelled_and_the_next_goes_on(site, servers.workers[1])
    statuses = [record["status"] for record in site.records()]
    assert statuses == ["completed"] * 3 + ["interrupted", "completed"]
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
    assert site.summary(0) == Summary(ok=9, failed=1, skipped=0)
    said = site.terminal.run("look")
    assert [word for word in ("COMPLETED", "failed", "all is well") if word not in said] == []
    (workers,) = site.records()[0]["workers"]
    assert (workers["workers"], workers["threads"]) == (2, 1)
    assert workers["environment"]["MALLOC_TRIM_THRESHOLD_"] == str(1 << 30)


def a_worker_dies_and_the_next_night_waits(site: Site, workers: list[Popen[bytes]]) -> str:
    """The flow run of that next night, for which more images have come meanwhile."""
    site.add_images("second", 12)
    night = site.trigger()
    site.wait_for_commits(11)
    with stopped(workers[1].pid):
        workers[0].kill()  # a nanny; its worker goes with it
        site.add_images("third", 8)
        next_night = site.trigger()  # not before: the pool's worker starts two in any order
        site.wait_for_state(next_night, "AwaitingConcurrencySlot")
    assert site.wait_for_state(night, *ENDED) == "COMPLETED"
    assert site.summary(1) == Summary(ok=12, failed=0, skipped=10)
    return next_night


def the_server_is_stopped_and_comes_back(site: Site, servers: Servers, night: str) -> None:
    """The night goes on without it, and tells it in the end; what was there before is there."""
    site.wait_for_commits(23)
    before = {night["id"] for night in site.nights()}
    with stopped(servers.workers[1].pid):  # else the night may be over before the server is gone
        servers.prefect.close()
    servers.prefect.enter_context(site.server())
    assert site.wait_for_state(night, *ENDED) == "COMPLETED"
    assert site.summary(2) == Summary(ok=8, failed=0, skipped=22)
    assert before <= {night["id"] for night in site.nights()}


def a_night_is_cancelled_and_the_next_goes_on(site: Site, worker: Popen[bytes]) -> None:
    site.add_images("fourth", 8)
    night = site.trigger()
    site.wait_for_commits(31)
    with stopped(worker.pid):  # else the night may be over before it is cancelled
        site.terminal.run("cancel", {"FLOW_RUN_ID": night})
        site.wait_for_record("interrupted")
    assert site.wait_for_state(night, *ENDED) == "CANCELLED"
    assert list(check_store(site.snapshot.files)) == []

    # A chunk that was at work when the night was cancelled may have been committed after.
    done = site.commits
    assert 31 <= done < 38
    assert site.wait_for_state(site.trigger(), *ENDED) == "COMPLETED"
    assert site.summary(4) == Summary(ok=38 - done, failed=0, skipped=done)
    assert list(check_store(site.snapshot.files)) == []
