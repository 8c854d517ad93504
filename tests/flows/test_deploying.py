"""`segpipe deploy`: what it writes works from anywhere, and what is missing is said."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from prefect.blocks.webhook import Webhook
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_URL, PREFECT_HOME, temporary_settings
from prefect.states import Crashed

from tests.flows.receivers import Receiver, web_receiver
from tests.generated import make_collection

Segpipe = Callable[..., subprocess.CompletedProcess[str]]

POOL = "deploying"
"""Of these tests alone: other tests of this server have one of the usual name."""


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_collection(tmp_path_factory.mktemp("archive") / "plates", 2)


@pytest.fixture
def receiver(prefect_api: str, environment: dict[str, str]) -> Iterator[Receiver]:
    """A web hook, `webhook/deploying` on the server; in this process Prefect means that server."""
    home = environment["PREFECT_HOME"]
    with (
        temporary_settings({PREFECT_API_URL: prefect_api, PREFECT_HOME: home}),
        web_receiver() as found,
    ):
        Webhook(url=found.url).save("deploying", overwrite=True)
        yield found


@pytest.fixture
def prefect(
    environment: dict[str, str], prefect_api: str, tmp_path: Path
) -> Callable[..., subprocess.CompletedProcess[str]]:
    """`prefect`, given in a folder that has nothing of ours."""
    variables = {**environment, "PREFECT_API_URL": prefect_api}

    def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "prefect", "--no-prompt", *map(str, arguments)]
        done = subprocess.run(
            command, cwd=tmp_path, env=variables, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done

    return run


def states(done: subprocess.CompletedProcess[str]) -> dict[str, str]:
    """What was looked at, up to the first blank -> what came of it."""
    checks = json.loads(done.stdout)["checks"]
    return {f"{check['what'].rsplit(' ', 1)[0]}": check["state"] for check in checks}


def found(done: subprocess.CompletedProcess[str], what: str) -> dict[str, str]:
    checks = json.loads(done.stdout)["checks"]
    return next(check for check in checks if check["what"].startswith(what))


def test_from_an_archive_to_a_night_that_is_watched(
    segpipe: Segpipe, prefect: Any, receiver: Receiver, images: Path, tmp_path: Path
) -> None:
    """`deploy init`, the commands that it prints, and `deploy check` at each step."""
    folder = tmp_path / "nights"
    config = folder / "plates.toml"
    done = segpipe(
        *("deploy", "init", images, "--store", tmp_path / "store", "--model", "classical"),
        *("--cron", "30 1 * * *", "--timezone", "Europe/Berlin", "--pool", POOL),
        *("--notify", "webhook/deploying", "--out", folder),
    )
    assert done.returncode == 0, done.stderr
    before = segpipe("deploy", "check", config, "--json")
    assert before.returncode == 1
    missing = [c["what"] for c in json.loads(before.stdout)["checks"] if c["state"] == "missing"]
    assert missing == [f"work pool {POOL}", "deployment nightly/plates"]

    commands = [line.split()[1:] for line in done.stdout.splitlines() if "  prefect " in line]
    assert len(commands) == 3
    for arguments in commands:
        prefect(*arguments)
    after = segpipe("deploy", "check", config, "--send", "--json")
    missing = [c["what"] for c in json.loads(after.stdout)["checks"] if c["state"] != "ok"]
    assert missing == [f"worker of {POOL}"]
    assert "at 01:30 (Europe/Berlin)" in found(after, "schedule of nightly/plates")["found"]
    assert receiver.next().content["subject"] == "segpipe: a test"

    asyncio.run(crash("nightly/plates"))
    content = receiver.next().content
    assert content["subject"] == "segpipe: nightly/plates is Crashed"
    assert content["body"].endswith('the "power" is gone')

    config.write_text(config.read_text().replace('model = "classical"', 'model = "no-such"'))
    changed = segpipe("deploy", "check", config, "--json")
    assert changed.returncode == 1
    assert found(changed, "parameters of")["found"].endswith("by now: model")
    assert found(changed, "model no-such")["state"] == "missing"


async def crash(deployment: str) -> None:
    """What a worker tells the server when the process of a flow run has died."""
    async with get_client() as client:
        found = await client.read_deployment_by_name(deployment)
        run = await client.create_flow_run_from_deployment(found.id)
        state = Crashed(message='the "power" is gone')
        await client.set_flow_run_state(run.id, state, force=True)
