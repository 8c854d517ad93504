"""`automations.yaml`: what the Prefect server itself tells of the nights of a collection.

It is the only one left to tell when the machine of a night is gone, or never took the night up.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

NO_BLOCK = "BLOCK-ID"
"""Stands where the id of a block belongs that was not known; the server refuses it."""

HEARTBEAT_SECONDS = 900
"""A flow run is silent after this long: Prefect's heartbeat comes every 180 seconds."""

LATE_SECONDS = 1800

TEXT = """\
# What the Prefect server itself tells of the nights of {name}, through {blocks}.
#
#   prefect automation create --from-file {file}
#
# once; to do it again, delete the old ones first: prefect automation delete 'segpipe {name}: ...'
automations:
  # A night that fails tells of it itself; the server also sees one that could not even begin.
  - name: "segpipe {name}: failed"
    trigger:
      type: event
      posture: Reactive
      match: &runs
        prefect.resource.id: prefect.flow-run.*
      match_related: &nights  # and not the watch, which would tell every ten minutes
        - prefect.resource.role: deployment
          prefect.resource.name: {name}
        - prefect.resource.role: flow
          prefect.resource.name: nightly
      expect: [prefect.flow-run.Crashed, prefect.flow-run.Failed, prefect.flow-run.TimedOut]
      for_each: [prefect.resource.id]
      threshold: 1
      within: 0
    actions:
{tell_failed}

  # The machine is gone, or its network: the run's heartbeat, every 3 minutes, has stopped.
  - name: "segpipe {name}: silent"
    trigger:
      type: event
      posture: Proactive
      match: *runs
      match_related:  # a heartbeat does not say of which deployment: this is for all nights
        prefect.resource.role: flow
        prefect.resource.name: nightly
      after: [prefect.flow-run.heartbeat]
      expect:
        - prefect.flow-run.heartbeat
        - prefect.flow-run.Completed
        - prefect.flow-run.Failed
        - prefect.flow-run.TimedOut
        - prefect.flow-run.Cancelled
        - prefect.flow-run.Crashed
      for_each: [prefect.resource.id]
      threshold: 1
      within: {heartbeat}
    actions:
      - type: change-flow-run-state  # of which the automation above tells
        state: CRASHED
        message: no heartbeat for {minutes} minutes

  # No worker took the night up.
  - name: "segpipe {name}: not started"
    trigger:
      type: event
      posture: Proactive
      match: *runs
      match_related: *nights
      after: [prefect.flow-run.Late]
      expect:
        - prefect.flow-run.Pending
        - prefect.flow-run.Running
        - prefect.flow-run.AwaitingConcurrencySlot
        - prefect.flow-run.Cancelled
      for_each: [prefect.resource.id]
      threshold: 1
      within: {late}
    actions:
{tell_late}
"""

_FAILED = (
    "segpipe: {{ flow.name }}/{{ deployment.name }} is {{ flow_run.state.name }}",
    "flow run {{ flow_run.name }}: {{ flow_run.state.message }}",
)
_LATE = (
    "segpipe: {{ flow.name }}/{{ deployment.name }} has not started",
    "flow run {{ flow_run.name }} is waiting for a worker of its pool",
)


def automations_yaml(name: str, blocks: Mapping[str, str | None], file: Path) -> str:
    """The file for the nights called `name`.

    Args:
        blocks: that are told, as `slack-webhook/lab` -> id on the server, None if not known.
        file: where it is going to lie, for the commands in its head.
    """
    return TEXT.format(
        name=name,
        blocks=", ".join(blocks),
        file=file,
        tell_failed=_actions(*_FAILED, blocks),
        tell_late=_actions(*_LATE, blocks),
        heartbeat=HEARTBEAT_SECONDS,
        minutes=HEARTBEAT_SECONDS // 60,
        late=LATE_SECONDS,
    )


def _actions(subject: str, body: str, blocks: Mapping[str, str | None]) -> str:
    """One for each block; a bare webhook is sent the same JSON as by a night."""
    lines = []
    for block, block_id in blocks.items():
        if block.startswith("webhook/"):
            lines += [
                "- type: call-webhook",
                "  payload: |-",
                f'    {{"subject": {_json(subject)},',
                f'     "body": {_json(body)}}}',
            ]
        else:
            lines += ["- type: send-notification", f'  subject: "{subject}"', f'  body: "{body}"']
        lines.append(f"  block_document_id: {block_id or NO_BLOCK}  # {block}")
    return "\n".join(f"      {line}" for line in lines)


def _json(template: str) -> str:
    """The template of a JSON string, whatever the values hold."""
    return f"{{% filter tojson %}}{template}{{% endfilter %}}"
