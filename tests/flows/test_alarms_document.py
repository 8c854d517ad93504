"""The commands of docs/alarms.md, as they stand there, with receivers of our own."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_URL, PREFECT_HOME, temporary_settings
from prefect.states import Crashed

from tests.conftest import REPOSITORY
from tests.flows.receivers import Mail, Posted, Receiver, mail_receiver, web_receiver
from tests.generated import make_collection
from tests.servers.process import free_port

DOCUMENT = (REPOSITORY / "docs" / "alarms.md").read_text()
COMMANDS = dict(re.findall(r"<!-- test: (\w+) -->\n```sh\n(.*?)```", DOCUMENT, re.DOTALL))

Shell = Callable[[str], subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def web() -> Iterator[Receiver]:
    with web_receiver() as found:
        yield found


@pytest.fixture(scope="module")
def post() -> Iterator[Receiver]:
    with mail_receiver(free_port()) as found:
        yield found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("alarms")


@pytest.fixture(scope="module")
def sh(
    environment: dict[str, str], prefect_api: str, web: Receiver, post: Receiver, folder: Path
) -> Shell:
    """A shell of somebody who has set what the document says, and has made the blocks."""
    variables = {
        **environment,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}",
        "PREFECT_API_URL": prefect_api,
        "SLACK_URL": f"json{web.url.removeprefix('http')}/slack",  # Apprise's own kind of hook
        "HOOK_URL": f"{web.url}/hook",
        "MAIL_URL": f"mailto://{post.url}?from=segpipe@example.org&to=lab@example.org&format=text",
        "SOURCE": str(make_collection(folder / "plates", 1)),
        "STORE": str(folder / "store"),
    }

    def run(script: str) -> subprocess.CompletedProcess[str]:
        command = ["sh", "-e", "-c", script]
        return subprocess.run(
            command, cwd=folder, env=variables, capture_output=True, text=True, timeout=120
        )

    # One program for all blocks: the import of Prefect takes a second.
    blocks = "".join(COMMANDS[name] for name in ("slack", "mail", "hook", "chat"))
    bodies = re.findall(r"<<'END'\n(.*?)END", blocks, re.DOTALL)
    done = run(f"python - <<'END'\n{''.join(bodies)}END\n")
    assert len(bodies) == 4
    assert done.returncode == 0, done.stderr
    return run


def test_the_document_tells_of_every_command_that_is_tried() -> None:
    assert set(COMMANDS) == {"slack", "mail", "hook", "chat", "try", "automations"}


def test_the_blocks_tell(sh: Shell, web: Receiver, post: Receiver) -> None:
    done = sh(COMMANDS["try"])
    assert done.stdout.strip() == str(("slack-webhook/lab", "slack-webhook/mail", "webhook/lab"))
    assert web.next().content["message"] == "a test"
    assert post.next() == Mail(["lab@example.org"], "segpipe", "a test\r\n")
    assert web.next() == Posted("/hook", {"subject": "segpipe", "body": "a test"})


def test_from_an_archive_to_a_night_that_the_server_tells_of(
    sh: Shell, web: Receiver, folder: Path, environment: dict[str, str], prefect_api: str
) -> None:
    """What `deploy init` wrote is taken, and `deploy check` says what is missing still."""
    done = sh(COMMANDS["automations"])
    assert done.returncode == 0, done.stdout + done.stderr
    home = environment["PREFECT_HOME"]
    with temporary_settings({PREFECT_API_URL: prefect_api, PREFECT_HOME: home}):
        asyncio.run(_crash("nightly/plates"))
    content = web.next().content
    assert content["subject"] == "segpipe: nightly/plates is Crashed"
    assert content["body"].endswith(': the "power" is gone')

    checks = _check(sh, "--send")
    missing = {check["what"]: check["todo"] for check in checks if check["state"] != "ok"}
    # Another test of this server may have had a worker of this pool.
    assert missing in ({}, {"worker of segpipe": "prefect worker start --pool segpipe"})
    next_night = _about("schedule of nightly/plates", checks)["found"]
    assert re.fullmatch(r"next on \w+day \d{4}-\d\d-\d\d at 02:00 \(UTC\)", next_night)
    assert web.next().content["subject"] == "segpipe: a test"


def test_a_file_that_was_changed_since_is_found(sh: Shell, folder: Path) -> None:
    path = folder / "nights" / "plates.toml"
    path.write_text(path.read_text().replace('#model = "unet-nuclei"', 'model = "no-such"'))
    checks = _check(sh)
    assert _about("model no-such", checks)["state"] == "missing"
    assert _about("parameters of", checks)["found"].endswith("by now: model")


def _check(sh: Shell, *options: str) -> list[dict[str, str]]:
    done = sh(f"segpipe deploy check nights/plates.toml --json {' '.join(options)}")
    checks: list[dict[str, str]] = json.loads(done.stdout)["checks"]
    assert done.returncode == any(check["state"] == "missing" for check in checks), done.stderr
    return checks


def _about(what: str, checks: list[dict[str, str]]) -> dict[str, str]:
    return next(check for check in checks if check["what"].startswith(what))


async def _crash(deployment: str) -> Any:
    """What a worker tells the server when the process of a flow run has died."""
    async with get_client() as client:
        found = await client.read_deployment_by_name(deployment)
        run = await client.create_flow_run_from_deployment(found.id)
        state = Crashed(message='the "power" is gone')
        await client.set_flow_run_state(run.id, state, force=True)
