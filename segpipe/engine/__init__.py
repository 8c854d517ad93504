"""The Dask side of a run: workers, what is on them, and the chunks in flight.

    with local_cluster(1) as client, equipped(client, work) as staff:
        for commit in run_chunks(staff, chunks): ...

`staffed` does the first line in a thread.
"""

from segpipe.engine.cluster import (
    Staff,
    connect,
    equipped,
    existing_cluster,
    local_cluster,
    staffed,
    worker_environment,
)
from segpipe.engine.window import run_chunks
from segpipe.engine.worker import Work

__all__ = [
    "Staff",
    "Work",
    "connect",
    "equipped",
    "existing_cluster",
    "local_cluster",
    "run_chunks",
    "staffed",
    "worker_environment",
]
