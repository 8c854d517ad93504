"""Segment one collection: the flow behind `segpipe run` and behind every schedule.

One flow run, one task that drives Dask, and artifacts for those who watch. Prefect says when and
shows what; that a chunk is done is said by its commit alone, so a server that is slow or gone
costs the pictures and not the results.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from prefect import flow, get_run_logger, task
from prefect.artifacts import (
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.cache_policies import NO_CACHE

from segpipe.engine import connect
from segpipe.execution import Progress, Run
from segpipe.records import RunSummary
from segpipe.spec import RunSpec

Observer = Callable[[Progress], None]


@flow(name="segment", validate_parameters=True, persist_result=False)
def segment(spec: RunSpec, observe: Any = None) -> RunSummary:
    """Segment what is new in a collection.

    Args:
        spec: what to do; a deployment gives it as a mapping with the same keys.
        observe: called with a `Progress` after the plan and after each chunk.
    """
    run = Run(spec)
    with run.recorded():
        if run.plan.chunks:
            process_chunks(run, observe or _ignore)
    return run.summary


@task(name="process chunks", cache_policy=NO_CACHE, persist_result=False)
def process_chunks(run: Run, observe: Observer) -> None:
    """Drive the cluster through the plan."""
    shown = _ShownProgress()
    observe(run.progress)
    with connect(run.workers, run.spec.dask_address) as client:
        for progress in run.process(client):
            observe(progress)
            shown.update(progress)
    shown.table_of_failures(run)


class _ShownProgress:
    """Artifacts in the Prefect interface; a server that does not answer is no reason to stop."""

    def __init__(self) -> None:
        self._artifact: Any = None
        self._percent = -1

    def update(self, progress: Progress) -> None:
        percent = int(100 * progress.done / progress.total)
        if percent == self._percent:
            return
        self._percent = percent
        self._try(self._show, percent, f"{progress.done:,} of {progress.total:,} images")

    def table_of_failures(self, run: Run) -> None:
        rows = [
            {"image": image.path, "reason": image.reason, "detail": image.detail}
            for image in run.failures(limit=200)
        ]
        if rows:
            self._try(create_table_artifact, rows, key="segpipe-failures")

    def _show(self, percent: int, description: str) -> None:
        if self._artifact is None:
            self._artifact = create_progress_artifact(percent, "segpipe-progress", description)
        else:
            update_progress_artifact(self._artifact, percent, description)

    @staticmethod
    def _try(show: Callable[..., Any], *arguments: Any, **named: Any) -> None:
        try:
            show(*arguments, **named)
        except Exception as error:
            get_run_logger().warning("artifact not shown: %s", error)


def _ignore(progress: Progress) -> None:
    logging.getLogger(__name__).debug("%s", progress)
