"""Segment one collection: the flow behind `segpipe run` and behind every schedule.

One flow run, one task that drives Dask, and artifacts for those who watch. Prefect says when and
shows what; that a chunk is done is said by its commit alone, so a server that is slow or gone
costs the pictures and not the results.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.runtime import flow_run
from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, temporary_settings
from segpipe.flows.artifacts import ShownProgress
from segpipe.flows.logs import flow_logger

from segpipe.errors import EngineError
from segpipe.execution import Run, planned
from segpipe.progress import Progress
from segpipe.records import RunSummary
from segpipe.spec import RunSpec

Observer = Callable[[Progress], None]

RETRIES = 2
"""Of a call to the Prefect server, after 2 and 4 seconds; its own default waits for a minute."""


@flow(name="segment", validate_parameters=True, persist_result=False)
def segment(spec: RunSpec, observe: Any = None, ended: Any = None, run: Any = None) -> RunSummary:
    """Segment what is new in a collection.

    Args:
        spec: what to do; a deployment gives it as a mapping with the same keys.
        observe: called with a `Progress` after the plan and after each chunk.
        ended: called once with the summary, or with the exception that ended the work.
        run: of this spec, planned already; None to plan it here.
    """
    ended = ended or _ignore
    try:
        if run:
            summary = _work(run, observe or _ignore)
        else:
            with planned(spec) as (run,), run.staffed():
                summary = _work(run, observe or _ignore)
    except BaseException as error:
        ended(error)
        raise
    ended(summary)
    return summary


class NotStartedError(EngineError):
    """The Prefect server did not start a flow run."""


def segment_here(run: Run, observe: Observer | None = None) -> RunSummary:
    """`segment_planned` for somebody who waits: a server that is gone is soon given up.

    Raises:
        NotStartedError: there is no server to begin with.
    """
    with temporary_settings(set_defaults={PREFECT_CLIENT_MAX_RETRIES: RETRIES}):
        return segment_planned(run, observe)


def segment_planned(run: Run, observe: Observer | None = None) -> RunSummary:
    """Call the flow in this process, on a run that is planned already.

    What the work came to is returned or raised even if the Prefect server is gone by then: Prefect
    raises that it cannot say so to its server.

    Raises:
        NotStartedError: there is no server to begin with.
    """
    outcome: list[RunSummary | BaseException] = []
    try:
        return segment(run.spec, observe, outcome.append, run)
    except Exception as error:
        url = PREFECT_API_URL.value()
        if not outcome:
            raise NotStartedError(
                f"the Prefect server at {url} did not start the run: {error}"
            ) from error
        if error is not outcome[0]:
            text = "the Prefect server at %s was not told how the run ended: %s"
            flow_logger(__name__).warning(text, url, error)
    if isinstance(outcome[0], BaseException):
        raise outcome[0]
    return outcome[0]


@task(name="process chunks", cache_policy=NO_CACHE, persist_result=False)
def process_chunks(run: Run, observe: Observer) -> None:
    """Drive the workers through the plan."""
    shown = ShownProgress()
    observe(run.progress)
    for progress in run.process():
        observe(progress)
        shown.update(progress)
    shown.finish(run)


def work(run: Run, observe: Observer) -> None:
    """What the flow does, without any Prefect."""
    with run.recorded():
        for progress in run.process() if run.plan.chunks else ():
            observe(progress)


def _work(run: Run, observe: Observer) -> RunSummary:
    run.led_by(segment.name, str(flow_run.id), Path(__file__).read_bytes())
    with run.recorded():
        if run.plan.chunks:
            process_chunks(run, observe)
    return run.summary


def _ignore(said: object) -> None:
    logging.getLogger(__name__).debug("%s", said)
