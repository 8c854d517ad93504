"""Workers on this machine."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any

from distributed import Client, LocalCluster

from segpipe.clusters import Local
from segpipe.engine.demand import AsNeeded, Demand
from segpipe.engine.settings import dask_set, share_of_memory

LOST = "1000 days"
"""A worker that died is started again by its nanny. Dask gives a nanny up for good that has no
worker for this time; with the last one gone, the run would wait for nothing."""


class _Workers(LocalCluster):
    """Each worker sees one GPU, where there are any."""

    def __init__(self, gpus: Sequence[str], **options: Any) -> None:
        self._gpus = gpus
        super().__init__(**options)

    def start(self, workers: int) -> None:
        """Start so many; what one of them dies of at its start is raised."""
        self.scale(workers)
        self.sync(self._correct_state)

    def new_worker_spec(self) -> dict[Any, Any]:
        ((name, spec),) = super().new_worker_spec().items()
        if not self._gpus:
            return {name: spec}
        spec = copy.deepcopy(spec)
        device = self._gpus[len(self.worker_spec) % len(self._gpus)]
        spec["options"]["env"] = {"CUDA_VISIBLE_DEVICES": device}
        return {name: spec}


@contextmanager
def local_workers(cluster: Local, demand: Demand, gpus: int) -> Iterator[Client]:
    """Worker processes on this machine, one task at a time each; gone when the block ends.

    Args:
        cluster: settled.
        demand: what there is to do.
        gpus: that torch can use here; each worker sees one of them.
    """
    fewest, most = cluster.bounds
    with (
        dask_set(cluster.cores or 1, LOST),
        _Workers(
            _visible(gpus),
            n_workers=0,
            threads_per_worker=1,
            processes=True,
            memory_limit=cluster.memory or share_of_memory(most),
            dashboard_address="127.0.0.1:0",
        ) as workers,
        Client(workers, set_as_default=False) as client,
    ):
        if cluster.adaptive:
            workers.adapt(partial(AsNeeded, demand=demand), minimum=fewest, maximum=most)
        else:
            workers.start(most)
        yield client


def local_cluster(
    workers: int, memory: int | None = None, threads: int = 1
) -> AbstractContextManager[Client]:
    """The same, on a CPU, by the numbers.

    Args:
        workers: how many.
        memory: bytes for each, which Dask stops it at; None for its share of the machine's.
        threads: that the libraries in each compute with.
    """
    memory_gb = None if memory is None else memory / 1e9
    cluster = Local(workers=workers, cores=threads, memory_gb=memory_gb)
    return local_workers(cluster, Demand(), gpus=0)


def _visible(gpus: int) -> list[str]:
    """Names of the GPUs, as CUDA_VISIBLE_DEVICES takes them."""
    told = os.environ.get("CUDA_VISIBLE_DEVICES")
    return told.split(",")[:gpus] if told else [str(number) for number in range(gpus)]
