"""The night of one collection: what is new is segmented, and the morning tells of it.

A deployment for each collection has a schedule; `deploy/prefect.yaml` shows one. A night that is
larger than a partition is several runs, one after another, each in a flow run of its own.
"""

from __future__ import annotations

from prefect import flow, get_run_logger
from segpipe.flows.messages import alarm, alarm_of_state
from segpipe.flows.segment import Observer, segment
from segpipe.flows.stall import stall_alarm
from segpipe.flows.watch import look_back

from segpipe.execution import Run, planned
from segpipe.records import RunSummary
from segpipe.spec import RunSpec


@flow(
    name="nightly",
    validate_parameters=True,
    persist_result=False,
    on_failure=[alarm_of_state],
    on_crashed=[alarm_of_state],
)
def nightly(spec: RunSpec) -> list[RunSummary]:
    """Segment what is new or changed since the last night.

    Args:
        spec: the collection; a deployment gives it as a mapping with the same keys.

    Returns:
        A summary of each partition; of a night that fits into one, a single one.

    Raises:
        BusyError: another run was still doing the same work after `night.wait_hours`.
    """
    look_back(spec)
    with (
        planned(spec, spec.night.partition_chunks, 3600 * spec.night.wait_hours) as runs,
        stall_alarm(spec.night.stall_minutes, lambda text: alarm(spec, text)) as observe,
    ):
        return [_partition(run, observe) for run in runs]


def _partition(run: Run, observe: Observer) -> RunSummary:
    """One partition, as a flow run of its own; a server that went away meanwhile ends no night."""
    outcome: list[RunSummary | BaseException] = []
    try:
        with run.staffed():
            segment(run.spec, observe, ended=outcome.append, run=run)
    except Exception as error:
        if not outcome or not isinstance(outcome[0], RunSummary):
            raise
        get_run_logger().warning("the Prefect server was not told how a run ended: %s", error)
    return run.summary
