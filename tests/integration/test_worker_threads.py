"""How many threads the libraries of a worker compute with.

Apart from the other tests of workers: a cluster of theirs that is still open has its own number.
"""

from __future__ import annotations

import sys

import cloudpickle
import pytest

from segpipe.engine import local_cluster

# The workers do not have the tests.
cloudpickle.register_pickle_by_value(sys.modules[__name__])


def thread_pools() -> dict[str, int]:
    import cv2
    import numba
    import pyarrow as pa
    import torch
    import zarr

    return {
        "torch": torch.get_num_threads(),
        "numba": numba.get_num_threads(),
        "opencv": cv2.getNumThreads(),
        "arrow": pa.cpu_count(),
        "zarr": zarr.config.get("threading.max_workers"),
    }


@pytest.mark.parametrize("threads", [1, 2])
def test_no_library_of_a_worker_has_more_threads_than_it_was_given(threads: int) -> None:
    with local_cluster(1, threads=threads) as client:
        (pools,) = client.run(thread_pools).values()
    assert set(pools.values()) == {threads}
