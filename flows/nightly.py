"""The night of one collection: what is new is segmented, and the morning tells of it.

A deployment for each collection has a schedule; `deploy/prefect.yaml` shows one. A night that is
larger than a partition is several runs, one after another, each in a flow run of its own.
"""

from __future__ import annotations

from prefect import flow
from segpipe.flows.logs import flow_logger
from segpipe.flows.messages import alarm, alarm_of_state
from segpipe.flows.morning import end_of_night
from segpipe.flows.segment import NotStartedError, Observer, segment_planned, work
from segpipe.flows.stall import stall_alarm
from segpipe.flows.watch import look_back

from segpipe.errors import TooManyFailedError
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
        TooManyFailedError: a larger fraction of the images failed than `max_failed`; what did not
            is committed.
    """
    look_back(spec)
    night = spec.night
    with (
        planned(spec, night.partition_chunks, 3600 * night.wait_hours) as runs,
        stall_alarm(night.stall_minutes, lambda text: alarm(spec, text)) as observe,
    ):
        done = _partitions(spec, runs, observe)
    images = sum(one.ok + one.failed for one in done)
    failed = sum(one.failed for one in done)
    if failed > spec.max_failed * images:
        raise TooManyFailedError(
            f"{failed:,} of {images:,} images failed, more than max_failed = {spec.max_failed:g} "
            f"allows; `segpipe show {spec.store}` lists the reasons"
        )
    return done


def _partitions(spec: RunSpec, runs: tuple[Run, ...], observe: Observer) -> list[RunSummary]:
    """Do them; the morning tells of them, also where one fails and those behind it are left."""
    begun: list[Run] = []
    stopped: Exception | None = None
    try:
        for run in runs:
            begun.append(run)
            do_partition(run, observe)
    except Exception as error:  # who cancels a night, does not wait for a page
        stopped = error
    end_of_night(spec, begun[0].files, [run.run_id for run in begun])
    if stopped:
        raise stopped
    return [run.summary for run in begun]


def do_partition(run: Run, observe: Observer) -> None:
    """One partition, as a flow run of its own; no server that goes away meanwhile ends a night."""
    with run.staffed():
        try:
            segment_planned(run, observe)
        except NotStartedError as error:
            flow_logger(__name__).warning("%s; it is done without one", error)
            work(run, observe)
