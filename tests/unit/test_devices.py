"""A network uses the threads it was given, in whatever thread it is run."""

from __future__ import annotations

import os
import subprocess
import sys

CODE = """
import ctypes, threading, torch
from segpipe.segmenters.devices import inference
from tests.generated import SPEC

with open("/proc/self/maps") as maps:
    openmp = ctypes.CDLL(next(line.split()[-1] for line in maps if "libgomp" in line))

def look():
    before = openmp.omp_get_max_threads()
    with inference(SPEC):
        print(before, openmp.omp_get_max_threads())

torch.set_num_threads(3)
thread = threading.Thread(target=look)
thread.start()
thread.join()
"""


def test_a_thread_computes_with_the_threads_of_the_process() -> None:
    """Where Dask has preset one thread, as it does for all its workers."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", CODE]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1", "3"]
