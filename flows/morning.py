"""The end of a night: its store is kept quick, its page written, and people are told.

Nothing in here can fail a night: what does not work is logged, and told.
"""

from __future__ import annotations

from collections.abc import Sequence

from prefect.artifacts import create_markdown_artifact
from segpipe.flows.logs import flow_logger
from segpipe.flows.messages import alarm, subject, tell

from segpipe.report.morning import Morning, morning, write_morning
from segpipe.spec import RunSpec
from segpipe.store import Snapshot
from segpipe.store.files import Files
from segpipe.store.upkeep import keep_up


def end_of_night(spec: RunSpec, files: Files, run_ids: Sequence[str]) -> None:
    """What is done once the runs of a night have ended, well or not."""
    try:
        keep_up(files)
    except Exception as error:
        alarm(spec, f"the store was not compacted: {type(error).__name__}: {error}")
    try:
        told = morning(Snapshot(files), run_ids)
        page = f"{files.address}/{write_morning(files, told)}"
    except Exception as error:
        alarm(spec, f"the report of the night was not written: {type(error).__name__}: {error}")
        return
    flow_logger(__name__).info("%s: %s", page, told.headline)
    _show(told)
    if told.alarms or spec.night.notify_on == "always":
        text = "\n".join([told.headline, *told.alarms, page])
        tell(spec.night.notify, subject(spec, "alarm" if told.alarms else "morning"), text)


def _show(told: Morning) -> None:
    try:
        create_markdown_artifact(told.markdown(), "segpipe-morning", told.headline)
    except Exception as error:  # the server may be gone by now
        flow_logger(__name__).warning("the morning is not shown in Prefect: %s", error)
