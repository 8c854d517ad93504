"""From a `[cluster]` table to a Dask client; what only one kind needs is imported for it alone."""

from __future__ import annotations

from contextlib import AbstractContextManager
from importlib.util import find_spec

from distributed import Client

from segpipe.clusters import BatchCluster, Cluster, Cuda, Existing, Kubernetes, Local, Ssh
from segpipe.engine.demand import Demand
from segpipe.errors import SpecError

PACKAGES = {
    "cuda": ("dask_cuda", "cuda"),
    "slurm": ("dask_jobqueue", "jobqueue"),
    "pbs": ("dask_jobqueue", "jobqueue"),
    "kubernetes": ("dask_kubernetes", "kubernetes"),
    "ssh": ("asyncssh", "ssh"),
}
"""Kind -> (module, the extra of segpipe that installs it)."""


def connect(
    cluster: Cluster, demand: Demand | None = None, gpus: int = 0
) -> AbstractContextManager[Client]:
    """The workers of a cluster, inside a block.

    Args:
        cluster: settled.
        demand: what there is to do, where workers come and go with it.
        gpus: that torch can use on this machine; 0 when the run computes on a CPU.

    Raises:
        SpecError: a package that the kind needs is not installed.
    """
    require_package(cluster.kind)
    demand = demand or Demand()
    match cluster:
        case Local():
            from segpipe.engine.local import local_workers

            return local_workers(cluster, demand, gpus)
        case Existing():
            from segpipe.engine.existing import existing_cluster

            return existing_cluster(cluster.address)
        case Cuda():
            from segpipe.engine.cuda import cuda_workers

            return cuda_workers(cluster, gpus)
        case BatchCluster():
            from segpipe.engine.batch import batch_workers

            return batch_workers(cluster, demand)
        case Kubernetes():
            from segpipe.engine.kubernetes import kubernetes_workers

            return kubernetes_workers(cluster)
        case Ssh():
            from segpipe.engine.ssh import ssh_workers

            return ssh_workers(cluster)


def require_package(kind: str) -> None:
    """
    Raises:
        SpecError: what a cluster of this kind needs is not installed; says how to install it.
    """
    module, extra = PACKAGES.get(kind, ("distributed", ""))
    if find_spec(module) is None:
        raise SpecError(
            f"[cluster] kind = {kind!r} needs the package {module.replace('_', '-')}; "
            f"pip install 'segpipe[{extra}]'"
        )
