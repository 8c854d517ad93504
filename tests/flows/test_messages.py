"""What people are told reaches real receivers, through blocks of a real Prefect server."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from prefect.blocks.notifications import CustomWebhookNotificationBlock, SlackWebhook
from prefect.blocks.system import Secret
from prefect.blocks.webhook import Webhook
from prefect.settings import PREFECT_API_URL, temporary_settings
from segpipe.flows.messages import alarm_of_state, tell
from segpipe.flows.watch import look_after

from segpipe.spec import Night, RunSpec
from segpipe.store import create_store
from tests.flows.receivers import Mail, Posted, Receiver, mail_receiver, web_receiver
from tests.servers.process import free_port

SECRET = "T0-secret-token"


pytestmark = pytest.mark.usefixtures("here")


def test_a_webhook_and_a_notification_block_are_told(receiver: Receiver) -> None:
    Webhook(url=f"{receiver.url}/{SECRET}").save("lab", overwrite=True)
    SlackWebhook(url=f"json{receiver.url.removeprefix('http')}/s").save("lab", overwrite=True)
    content = {"text": "{{subject}}\n{{body}}"}
    custom = CustomWebhookNotificationBlock(name="lab", url=receiver.url + "/c", json_data=content)
    custom.save("lab", overwrite=True)
    names = ("webhook/lab", "slack-webhook/lab", "custom-webhook/lab")
    assert tell(names, "nuclei", "4 images\nall well") == names
    assert receiver.next() == Posted(
        f"/{SECRET}", {"subject": "nuclei", "body": "4 images\nall well"}
    )
    assert receiver.next().content["message"] == "4 images\nall well"
    assert receiver.next() == Posted("/c", {"text": "nuclei\n4 images\nall well"})


def test_slack_is_sent_what_slack_takes(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The request that goes to hooks.slack.com, had it gone there."""
    monkeypatch.setattr("apprise.plugins.slack.NotifySlack.webhook_url", f"{receiver.url}/services")
    url = "https://hooks.slack.com/services/T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ"
    SlackWebhook(url=url).save("real", overwrite=True)
    assert tell(["slack-webhook/real"], "nuclei", "all well")
    posted = receiver.next()
    assert posted.path == "/services/T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ"
    assert "all well" in str(posted.content)


def test_mail_is_sent(tmp_path: Path) -> None:
    with mail_receiver(free_port()) as post:
        url = f"mailto://{post.url}?from=segpipe@example.org&to=lab@example.org&format=text"
        SlackWebhook(url=url).save("mail", overwrite=True)
        assert tell(["slack-webhook/mail"], "nuclei", "4 images\nall well")
        assert post.next() == Mail(["lab@example.org"], "nuclei", "4 images\r\nall well\r\n")


def test_what_cannot_be_sent_is_logged_without_a_secret_and_stops_nothing(
    receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    Webhook(url=f"{receiver.url}/ok").save("works", overwrite=True)
    Webhook(url=f"http://127.0.0.1:{free_port()}/{SECRET}").save("deaf", overwrite=True)
    Secret(value=SECRET).save("no-notification", overwrite=True)  # type: ignore[call-arg]
    bad = ["webhook/deaf", "webhook/nobody", "nonsense", "secret/no-notification"]
    with web_receiver(status=500) as broken, caplog.at_level(logging.DEBUG):
        Webhook(url=f"{broken.url}/{SECRET}").save("broken", overwrite=True)
        assert tell([*bad, "webhook/broken", "webhook/works"], "s", "b") == ("webhook/works",)
    assert receiver.next().content == {"subject": "s", "body": "b"}
    ours = [r.getMessage() for r in caplog.records if r.name == "segpipe.flows.messages"]
    for name, line in zip([*bad, "webhook/broken"], ours, strict=True):
        assert repr(name) in line
    assert SECRET not in "\n".join(ours)


def test_a_server_that_is_gone_stops_nothing() -> None:
    with temporary_settings({PREFECT_API_URL: f"http://127.0.0.1:{free_port()}/api"}):
        assert tell(["webhook/lab"], "s", "b") == ()


def test_a_failed_flow_run_is_told_without_its_passwords(receiver: Receiver) -> None:
    from prefect.client.schemas.objects import FlowRun
    from prefect.states import Failed

    Webhook(url=receiver.url).save("fail", overwrite=True)
    spec = {"source": "/a", "store": "/b", "night": {"notify": ["webhook/fail"]}}
    run = FlowRun.model_construct(name="blue-cat", parameters={"spec": spec})
    state = Failed(message=f"s3://key:{SECRET}@bucket: no access")
    alarm_of_state(None, run, state)  # as the process of the flow calls it
    alarm_of_state(flow=None, flow_run=run, state=state)  # as the worker calls it
    for content in (receiver.next().content, receiver.next().content):
        assert content["body"].startswith("flow run blue-cat is Failed: s3://***@bucket")


def test_a_dead_and_a_hanging_run_are_told_once_and_again_if_nobody_took_it(
    receiver: Receiver, tmp_path: Path
) -> None:
    Webhook(url=receiver.url).save("watch", overwrite=True)
    spec = RunSpec(source="/a", store=str(tmp_path), night=Night(notify=("webhook/watch",)))
    deaf = spec.model_copy(update={"night": Night(notify=("webhook/nobody-there",))})
    files = create_store(tmp_path)
    for run_id in ("run-1", "run-2"):
        files.replace(f"runs/{run_id}/record.json", b'{"status": "running"}')
    files.replace("leases/run-2.json", b'{"idle_seconds": 3600}')
    assert len(look_after(deaf)) == 2
    assert len(look_after(spec)) == 2
    body = receiver.next().content["body"]
    assert look_after(spec) == []
    assert "run-1 died" in body
    assert "run-2 lives" in body
