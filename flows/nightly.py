"""The night of one collection: what is new is segmented, and the morning tells of it.

A deployment for each collection has a schedule; `deploy/prefect.yaml` shows one.
"""

from __future__ import annotations

from prefect import flow
from segpipe.flows.segment import segment

from segpipe.records import RunSummary
from segpipe.spec import RunSpec


@flow(name="nightly", validate_parameters=True, persist_result=False)
def nightly(spec: RunSpec) -> list[RunSummary]:
    """Segment what is new or changed since the last night.

    Args:
        spec: the collection; a deployment gives it as a mapping with the same keys.
    """
    return [segment(spec)]
