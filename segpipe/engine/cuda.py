"""One worker for each GPU of this machine, by dask-cuda."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from distributed import Client

from segpipe.clusters import Cuda
from segpipe.engine.local import LOST
from segpipe.engine.settings import dask_set, share_of_memory


def options_of(cluster: Cuda, gpus: int) -> dict[str, Any]:
    """Arguments of `LocalCUDACluster`; memory on the GPUs is torch's matter, not RAPIDS'."""
    workers = len(cluster.devices) or gpus
    return {
        "CUDA_VISIBLE_DEVICES": [str(device) for device in cluster.devices] or None,
        "threads_per_worker": 1,
        "memory_limit": cluster.memory or share_of_memory(workers),
        "device_memory_limit": None,
        "dashboard_address": "127.0.0.1:0",
    }


@contextmanager
def cuda_workers(cluster: Cuda, gpus: int) -> Iterator[Client]:
    """A worker process for each GPU, which is the only one that it sees."""
    from dask_cuda import LocalCUDACluster

    with (
        dask_set(cluster.cores or 1, LOST),
        LocalCUDACluster(**options_of(cluster, gpus)) as workers,
        Client(workers, set_as_default=False) as client,
    ):
        yield client
