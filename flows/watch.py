"""Watch over the runs of stores, from outside: a deployment calls it every ten minutes.

The stall alarm of a night lives in the night's own process, and dies with it. This flow looks at
what the runs leave in their stores, and tells of a run that died without a word or that hangs.
"""

from __future__ import annotations

import logging

from prefect import flow
from segpipe.flows.messages import alarm

from segpipe.errors import SpecError
from segpipe.spec import RunSpec
from segpipe.store.opening import open_files
from segpipe.store.vigil import remember, sightings


@flow(name="watch", validate_parameters=True, persist_result=False)
def watch(collections: list[RunSpec]) -> list[str]:
    """Tell of runs that died without a word, that hang, or that hang no more.

    Args:
        collections: whose stores are looked at; `night` says when a run hangs and who is told.

    Returns:
        What was told, a sentence each.

    Raises:
        ExceptionGroup: of the stores that could not be looked at, after all others were.
    """
    told, errors = [], []
    for spec in collections:
        try:
            told += look_after(spec)
        except Exception as error:  # the others are looked at all the same
            errors.append(error)
    if errors:
        raise ExceptionGroup("stores that could not be looked at", errors)
    return told


def look_back(spec: RunSpec) -> None:
    """`look_after` before a night, which comes first: what goes wrong is logged and no more."""
    try:
        look_after(spec)
    except Exception as error:
        logging.getLogger(__name__).warning("%s: runs not looked at: %s", spec.store, error)


def look_after(spec: RunSpec) -> list[str]:
    """Tell what happened to the runs of one store since the last look.

    What no block took, of those that should, is told again the next time.
    """
    try:
        files = open_files(spec.store)
    except SpecError as error:  # before the first night there is none
        logging.getLogger(__name__).info("%s", error)
        return []
    seen = list(sightings(files, spec.night.stall_minutes))
    if not seen:
        return []
    texts = [sighting.text for sighting in seen]
    if alarm(spec, "\n".join(texts)):
        remember(files, seen)
    return texts
