"""The Dask side of a run: workers, what is on them, and the chunks in flight.

    with local_cluster(1) as client, equipped(client, work) as staff:
        for commit in run_chunks(staff, chunks): ...

`staffed` does the first line in a thread, for a cluster of any kind.
"""

from segpipe.engine.connect import connect
from segpipe.engine.demand import Demand
from segpipe.engine.existing import existing_cluster
from segpipe.engine.local import local_cluster
from segpipe.engine.patience import Patience
from segpipe.engine.settings import worker_environment
from segpipe.engine.spread import Looked
from segpipe.engine.staff import Staff, equipped, staffed
from segpipe.engine.window import run_chunks
from segpipe.engine.worker import Work

__all__ = [
    "Demand",
    "Looked",
    "Patience",
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
