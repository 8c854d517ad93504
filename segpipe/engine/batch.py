"""Workers as jobs of SLURM or PBS, by dask-jobqueue.

The scheduler is in this process, so that it ends with the run; a job whose scheduler is gone ends
too. Jobs reach it by TCP: this machine must be one that they can connect to.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from math import ceil
from typing import Any

from distributed import Client

from segpipe.clusters import BatchCluster, Pbs, Slurm
from segpipe.engine.demand import AsNeeded, Demand
from segpipe.engine.settings import dask_set, exported

LOST = "60s"
"""After which a job is asked for anew whose worker is gone; its nanny may start it again."""

LEAVE_SECONDS = 300
"""Before the end of its walltime a worker leaves; of a short job a tenth of it."""


@contextmanager
def batch_workers(cluster: BatchCluster, demand: Demand) -> Iterator[Client]:
    """Jobs with a worker each, as many as there is work for; none is left when the block ends."""
    fewest, most = cluster.bounds
    with (
        dask_set(cluster.cores, LOST),
        job_cluster(cluster) as jobs,
        Client(jobs, set_as_default=False) as client,
    ):
        # Adaptive also where the number is fixed: a job that has ended is replaced.
        jobs.adapt(partial(AsNeeded, demand=demand), minimum=fewest, maximum=most)
        yield client


def job_cluster(cluster: BatchCluster) -> Any:
    """A cluster of dask-jobqueue, without workers yet; `job_script()` shows what it submits."""
    from dask_jobqueue.pbs import PBSCluster
    from dask_jobqueue.slurm import SLURMCluster

    common: dict[str, Any] = {
        "cores": 1,  # of Dask: one chunk at a time, with all the threads of the job
        "processes": 1,
        "memory": f"{cluster.memory}B",
        "queue": cluster.queue,
        "account": cluster.account,
        "walltime": cluster.walltime,
        "job_extra_directives": list(cluster.job_lines),
        "job_script_prologue": [*_exports(cluster.cores), *cluster.prologue],
        "job_name": "segpipe-worker",
        "python": cluster.python,
        "interface": cluster.interface,
        "log_directory": cluster.log_folder,
        "worker_extra_args": ["--no-dashboard", *_lifetime(cluster.job_seconds)],
        "scheduler_options": {"dashboard_address": "127.0.0.1:0"},
    }
    match cluster:
        case Slurm():
            return SLURMCluster(**common, job_cpu=cluster.cores)
        case Pbs():
            whole = f"select=1:ncpus={cluster.cores}:mem={ceil(1000 * cluster.memory_gb)}mb"
            common["walltime"] = _hours(cluster.job_seconds)  # PBS knows no days
            return PBSCluster(**common, resource_spec=cluster.resources or whole)
        case _:
            raise NotImplementedError(cluster)


def _exports(threads: int) -> list[str]:
    return [f"export {name}={shlex.quote(value)}" for name, value in exported(threads).items()]


def _hours(seconds: int) -> str:
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"


def _lifetime(job_seconds: int) -> list[str]:
    """Not all at once: jobs that began together would end together."""
    early = min(LEAVE_SECONDS, job_seconds // 10)
    return ["--lifetime", f"{job_seconds - early}s", "--lifetime-stagger", f"{early // 2}s"]
