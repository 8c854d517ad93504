"""The page of a night and its statistics, in the folder of the night's last run.

A page shows pictures of images and names them: it goes when the results of one of its runs are
forgotten, and the statistics with it.
"""

from __future__ import annotations

import json

from segpipe.store.files import Files
from segpipe.store.layout import RUNS, run_file
from segpipe.store.sums import seal, unseal

REPORT = "report.html"
STATISTICS = "statistics.json"


def write_report(files: Files, run_id: str, html: bytes, statistics: bytes) -> str:
    """Write both beside the record of a run that has ended.

    Killed in between, the folder is left unsealed, and `fsck` says nothing of it.

    Returns:
        The path of the page, relative to the store.
    """
    unseal(files, run_id)
    # The statistics name the runs, by which the page is found when one of them is forgotten.
    files.replace(run_file(run_id, STATISTICS), statistics)
    files.replace(run_file(run_id, REPORT), html)
    seal(files, run_id)
    return run_file(run_id, REPORT)


def remove_reports(files: Files, run_id: str) -> None:
    """Remove the page and the statistics of every night that this run was part of."""
    for name in sorted(files.names(RUNS)):
        if not files.exists(run_file(name, STATISTICS)):
            continue
        if name == run_id or run_id in (runs_of_night(files, name) or (run_id,)):
            unseal(files, name)
            files.remove(run_file(name, REPORT))
            files.remove(run_file(name, STATISTICS))
            seal(files, name)


def runs_of_night(files: Files, run_id: str) -> tuple[str, ...]:
    """The runs whose statistics lie in a run's folder; none where they are missing or damaged."""
    try:
        return tuple(json.loads(files.read(run_file(run_id, STATISTICS)))["run_ids"])
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return ()
