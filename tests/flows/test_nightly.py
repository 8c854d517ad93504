"""A night as a flow on a real server: partitions, the morning, who is told, too many failures."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from prefect.blocks.webhook import Webhook
from prefect.client.orchestration import get_client
from prefect.settings import (
    PREFECT_API_URL,
    PREFECT_CLIENT_MAX_RETRIES,
    temporary_settings,
)
from segpipe.flows.nightly import do_partition, nightly

from segpipe.errors import TooManyFailedError
from segpipe.execution import planned
from segpipe.spec import Night, RunSpec
from segpipe.store import open_store
from segpipe.store.fsck import check_store
from tests.flows.receivers import Receiver
from tests.generated import make_collection
from tests.servers.process import free_port

pytestmark = pytest.mark.usefixtures("here")


def on_server() -> tuple[dict[str, Any], list[str]]:
    """(newest content of each artifact by its key, names of the flow runs' flows)."""

    async def ask() -> tuple[dict[str, Any], list[str]]:
        async with get_client() as client:
            artifacts = await client.read_artifacts()
            flows = {flow.id: flow.name for flow in await client.read_flows()}
            runs = await client.read_flow_runs()
        newest = {one.key: one for one in sorted(artifacts, key=lambda one: one.created)}
        return newest, [flows[run.flow_id] for run in runs]

    return asyncio.run(ask())


def test_a_night_of_two_partitions_ends_with_a_morning(receiver: Receiver, tmp_path: Path) -> None:
    Webhook(url=receiver.url).save("night", overwrite=True)
    spec = RunSpec(
        source=str(make_collection(tmp_path / "images", 7, broken=[2])),
        store=str(tmp_path / "store"),
        model="classical",
        chunk_images=2,
        max_failed=0.5,
        night=Night(partition_chunks=3, notify=("webhook/night",)),
    )
    before = on_server()[1].count("segment")
    summaries = nightly(spec)
    assert [one.ok + one.failed for one in summaries] == [6, 1]
    artifacts, flows = on_server()
    assert flows.count("segment") == before + 2
    store = open_store(spec.store)
    runs = [record["run_id"] for record in store.records()]
    assert runs == [one.run_id for one in summaries]
    assert list(check_store(store.files)) == []
    page = store.files.read(f"runs/{runs[-1]}/report.html").decode()
    message = receiver.next().content
    for told in (page, artifacts["segpipe-morning"].data, message["body"]):
        assert "7 images, 1 failed" in told
    assert "morning" in message["subject"]
    assert "image-002.png" in artifacts["segpipe-failures"].data

    (nothing,) = nightly(spec)
    assert (nothing.ok, nothing.skipped) == (0, 7)
    assert "nothing new, 7 images done before" in receiver.next().content["body"]
    assert list(check_store(store.files)) == []


def test_too_many_failures_fail_the_night_and_keep_what_is_good(
    receiver: Receiver, tmp_path: Path
) -> None:
    Webhook(url=receiver.url).save("alarm", overwrite=True)
    spec = RunSpec(
        source=str(make_collection(tmp_path / "images", 4, broken=[1, 2])),
        store=str(tmp_path / "store"),
        model="classical",
        night=Night(notify=("webhook/alarm",), notify_on="alarm"),
    )
    with pytest.raises(TooManyFailedError, match=r"2 of 4 images failed.*max_failed = 0\.1"):
        nightly(spec)
    (record,) = open_store(spec.store).records()
    assert (record["status"], record["summary"]["ok"]) == ("completed", 2)
    told = [receiver.next().content["body"] for _ in range(2)]
    assert "4 images, 2 failed" in told[0]
    assert "TooManyFailedError" in told[1] or "2 of 4 images failed" in told[1]


def test_a_partition_that_no_server_takes_up_is_done_all_the_same(tmp_path: Path) -> None:
    spec = RunSpec(
        source=str(make_collection(tmp_path / "images", 4)),
        store=str(tmp_path / "store"),
        model="classical",
    )
    nobody = {PREFECT_API_URL: f"http://127.0.0.1:{free_port()}/api"}
    with temporary_settings({**nobody, PREFECT_CLIENT_MAX_RETRIES: 0}), planned(spec) as (run,):
        do_partition(run, lambda progress: None)
    assert run.summary.ok == 4
    (record,) = open_store(spec.store).records()
    assert record["status"] == "completed"
