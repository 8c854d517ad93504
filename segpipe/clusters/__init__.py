"""Which cluster does the work: the `[cluster]` table of a `RunSpec`, one class for each kind.

None of it changes a result, and none of it is a secret: what is needed to log in lies where the
tools of the cluster look for it (`~/.ssh`, a kubeconfig, a Kubernetes Secret that is named here).
`docs/clusters.md` shows a table of each kind.
"""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from segpipe.clusters.base import Line
from segpipe.clusters.batch import BatchCluster, Pbs, Slurm
from segpipe.clusters.elsewhere import Kubernetes, Ssh
from segpipe.clusters.here import Cuda, Existing, Local
from segpipe.frozen import Frozen

__all__ = [
    "BatchCluster",
    "Cluster",
    "Cuda",
    "Existing",
    "Kubernetes",
    "Local",
    "Pbs",
    "Slurm",
    "Ssh",
    "Workforce",
    "elsewhere",
]

Cluster = Annotated[
    Local | Existing | Cuda | Slurm | Pbs | Kubernetes | Ssh, Field(discriminator="kind")
]


class Workforce(Frozen):
    """Who does the work of a run.

    Attributes:
        cluster: a table with a `kind`; docs/clusters.md shows each. Without it, the next three are
            its short form, and with it they are refused.
        workers: local worker processes; None for one per GPU, or one on a CPU that uses every core.
        dask_address: an existing Dask scheduler instead of local workers.
        memory_gb: what a worker process may use, in units of 10^9 bytes; None for its share of
            four fifths of the machine's memory, or on an existing cluster what Dask gave it. An
            image that does not fit is `too_large`.
    """

    cluster: Cluster | None = None
    workers: int | None = Field(None, ge=1, le=256)
    dask_address: Line | None = None
    memory_gb: float | None = Field(None, gt=0, le=1e6)

    @model_validator(mode="after")
    def _one_cluster(self) -> Self:
        short = {
            "workers": self.workers,
            "dask_address": self.dask_address,
            "memory_gb": self.memory_gb,
        }
        given = [f"{key} = {value!r}" for key, value in short.items() if value is not None]
        if self.cluster is not None and given:
            raise ValueError(
                f"{' and '.join(given)} and a [cluster] table (kind = {self.cluster.kind!r}) are "
                "both given; say it in the table alone"
            )
        if self.workers is not None and self.dask_address is not None:
            raise ValueError(
                f"{given[0]} and {given[1]} are both given: the first is for workers on this "
                "machine, the second has workers already; leave one out"
            )
        return self

    @property
    def chosen_cluster(self) -> Cluster:
        """The table, or what its short form stands for."""
        if self.cluster is not None:
            return self.cluster
        if self.dask_address is not None:
            return Existing(address=self.dask_address, memory_gb=self.memory_gb)
        return Local(workers=self.workers, memory_gb=self.memory_gb)


def elsewhere(asked: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """The keys of a run that was asked for before, with other workers for it.

    Args:
        asked: keys of a `RunSpec`.
        given: some of `workers`, `dask_address`, `memory_gb`. The first two stand for another
            cluster, the third alone for the same one with other workers.
    """
    if {"workers", "dask_address"} & given.keys():
        return asked | {"cluster": None, "workers": None, "dask_address": None} | given
    if asked.get("cluster") and given:
        return asked | {"cluster": asked["cluster"] | given}
    return asked | given
