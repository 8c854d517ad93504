"""segpipe: batch segmentation of image archives.

    import segpipe
    from segpipe.spec import RunSpec

    summary = segpipe.run(RunSpec(source="photos/", store="results/"))
    archive = segpipe.open_store("results/")

Importing this package loads nothing heavy; what a call needs is imported by the call.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from segpipe.archive import Archive
    from segpipe.progress import Progress
    from segpipe.records import RunSummary
    from segpipe.spec import RunSpec

__all__ = ["open_store", "run"]


def run(spec: RunSpec, observe: Callable[[Progress], None] | None = None) -> RunSummary:
    """Segment what is new in a collection: the Prefect flow behind `segpipe run`.

    Args:
        spec: what to do.
        observe: called with a `Progress` after the plan, each chunk and each part of a large image.

    Raises:
        SpecError: something that was asked for cannot be done as asked.
        SegpipeError: the run failed; what is committed stays, and the next run goes on from it.
    """
    from segpipe.flows.embedded import expect_server, prefect_api

    expect_server()  # It takes seconds to import what it needs; until it is told, it does no more.
    from segpipe.execution import planned

    # What is asked wrongly is told before any server starts.
    with planned(spec) as (run,), run.staffed():
        from segpipe.flows.segment import segment_here

        with prefect_api():
            summary: RunSummary = segment_here(run, observe)
    return summary


def open_store(path: str | Path) -> Archive:
    """The results in a store as of now; see `segpipe.archive`.

    Raises:
        SpecError: there is no store at `path`.
    """
    from segpipe.archive import Archive
    from segpipe.store.opening import open_files

    return Archive(open_files(path))
