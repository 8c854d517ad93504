"""Tell people: through Prefect blocks, which hold the addresses and the secrets.

A block is named `type/name`, as `slack-webhook/lab`. A message that cannot be sent stops nothing:
it is logged, with the name of its block and nothing of what the block holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from prefect.blocks.abstract import NotificationBlock
from prefect.blocks.core import Block
from prefect.blocks.webhook import Webhook
from prefect.runtime import deployment
from prefect.utilities.asyncutils import run_coro_as_sync
from segpipe.flows.logs import flow_logger

from segpipe.provenance.redact import redact_text
from segpipe.spec import RunSpec, parse


def tell(blocks: Sequence[str], subject: str, body: str) -> tuple[str, ...]:
    """Send a message through each block; never raises.

    Args:
        blocks: of any notification block, or of a `webhook`, which is sent JSON with the keys
            `subject` and `body`.

    Returns:
        The blocks that took it.
    """
    return tuple(name for name in blocks if _told(name, subject, body))


def alarm(spec: RunSpec, text: str) -> bool:
    """Something is the matter with a collection: it is logged, and told to those who are named.

    Returns:
        Whether somebody was told, or nobody is to be.
    """
    flow_logger(__name__).warning("%s: %s", spec.store, text)
    names = spec.night.notify
    return bool(tell(names, subject(spec, "alarm"), text)) or not names


def subject(spec: RunSpec, what: str) -> str:
    """The first line of a message about a collection, by its deployment or else its store."""
    return f"segpipe: {what} for {deployment.name or spec.store}"


def alarm_of_state(flow: Any, flow_run: Any, state: Any) -> None:  # noqa: ARG001 - Prefect's names
    """A hook of Prefect: a flow run that takes a `spec` has failed or crashed.

    Prefect calls it in the process of the flow, with the arguments in this order, or in one of the
    worker's where that process has died, by their names.
    """
    spec = parse(RunSpec, flow_run.parameters["spec"], "parameters")
    alarm(
        spec, f"flow run {flow_run.name} is {state.name}: {redact_text(state.message or 'no word')}"
    )


def load_block(name: str) -> Block:
    """The block of a name, if it is one that can tell people something.

    Raises:
        ValueError: there is no such block on the server, or it is of another kind.
    """
    block = Block.load(name)
    assert isinstance(block, Block)
    if not isinstance(block, NotificationBlock | Webhook):
        raise ValueError(  # noqa: TRY004 - the name is what is wrong
            f"{name}: a block of this type cannot notify; take a notification block or a webhook"
        )
    return block


def _told(name: str, subject: str, body: str) -> bool:
    try:
        block = load_block(name)
        if isinstance(block, Webhook):
            _call(block, {"subject": subject, "body": body})
        else:
            assert isinstance(block, NotificationBlock)
            with block.raise_on_failure():
                _notify(block, subject, body)
    except Exception as error:  # whatever a block of somebody else raises
        # Its text may hold the address, and the address is the secret.
        text = "block %r did not send the message %r: %s"
        flow_logger(__name__).warning(text, name, subject, type(error).__name__)
        return False
    return True


def _notify(block: NotificationBlock, subject: str, body: str) -> None:
    said: Any = block.notify(body, subject)
    if said is not None:  # a block whose `notify` is asynchronous
        run_coro_as_sync(said)


def _call(webhook: Webhook, payload: dict[str, Any]) -> None:
    answer: Any = run_coro_as_sync(webhook.call(payload))
    answer.raise_for_status()
