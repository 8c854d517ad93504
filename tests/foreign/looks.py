"""Ways to look at an image, each in a process with the libraries of .venv-foreign beside ours."""

from __future__ import annotations

import pickle
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tests.foreign.jobs import Found, Job
from tests.foreign.ways import WAYS

REPOSITORY = Path(__file__).resolve().parents[2]
FOREIGN = REPOSITORY / ".venv-foreign"


def found_by(names: Sequence[str], job: Job, warm: bool = False) -> dict[str, Found]:
    """What some ways find, in a process of their own.

    Args:
        names: one, if what it takes is to be told.
        warm: whatever is compiled or loaded at first is not counted.
    """
    with tempfile.TemporaryDirectory() as folder:
        asked, answer = Path(folder) / "asked", Path(folder) / "answer"
        asked.write_bytes(pickle.dumps((list(names), job, warm)))
        command = [sys.executable, "-m", "tests.foreign.looks", asked, answer]
        subprocess.run(command, cwd=REPOSITORY, check=True, timeout=3600)
        found: dict[str, Found] = pickle.loads(answer.read_bytes())
        return found


def _child(asked: Path, answer: Path) -> None:
    sys.path += map(str, FOREIGN.glob("lib/python*/site-packages"))
    names, job, warm = pickle.loads(asked.read_bytes())
    answer.write_bytes(pickle.dumps({name: _found(name, job, warm) for name in names}))


def _found(name: str, job: Job, warm: bool) -> Found:
    way = WAYS[name]
    if warm:
        way.ready(replace(job, pixels=job.pixels[:256, :256], side=192, overlap=64))()
    answer = way.ready(job)
    before, began, cores = _peak(), time.perf_counter(), time.process_time()
    found = answer()
    seconds, core_seconds = time.perf_counter() - began, time.process_time() - cores
    peak = _peak()
    return Found(way.objects(found), way.slices(job), seconds, core_seconds, before, peak)


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    _child(Path(sys.argv[1]), Path(sys.argv[2]))
