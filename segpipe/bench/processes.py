"""What the processes of a run took: core seconds and peak memory, read from outside."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import psutil


@dataclass(frozen=True, slots=True)
class Usage:
    """Of one process, so far.

    Attributes:
        cores: core seconds.
        peak: bytes of memory, at most.
    """

    cores: float
    peak: int


@dataclass(frozen=True, slots=True)
class Sample:
    """A moment of a run.

    Attributes:
        at: by `time.perf_counter`.
        done: images.
        processes: by process id; this one and all that it started, except those before the run.
    """

    at: float
    done: int
    processes: dict[int, Usage]


class Watch:
    """Samples of this process and of those that it starts from now on."""

    def __init__(self) -> None:
        self._own = psutil.Process()
        self._before = {child.pid for child in self._own.children(recursive=True)}
        self.samples: list[Sample] = []

    def sample(self, done: int) -> None:
        """Take one, when so many images are done."""
        at = time.perf_counter()
        new = [
            child for child in self._own.children(recursive=True) if child.pid not in self._before
        ]
        processes = {}
        for process in (self._own, *new):
            try:
                times = process.cpu_times()
                processes[process.pid] = Usage(times.user + times.system, peak_bytes(process))
            except psutil.NoSuchProcess:
                continue
        self.samples.append(Sample(at, done, processes))

    def peak(self) -> int:
        """Bytes of the largest process that was started: a worker, since it holds the model."""
        return max(
            usage.peak
            for sample in self.samples
            for pid, usage in sample.processes.items()
            if pid != self._own.pid
        )


def cores_between(first: Sample, last: Sample) -> float:
    """Core seconds of all processes; what one took that ended meanwhile is not known."""
    return sum(
        usage.cores - (first.processes[pid].cores if pid in first.processes else 0.0)
        for pid, usage in last.processes.items()
    )


def resident_bytes() -> int:
    """Memory of this process now."""
    return int(psutil.Process().memory_info().rss)


def peak_bytes(process: psutil.Process) -> int:
    """The most memory that a process has had; where the system does not tell, what it has now."""
    try:
        status = Path(f"/proc/{process.pid}/status")
        with status.open(encoding="ascii", errors="replace") as lines:
            for line in lines:
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass  # not Linux, or it has just ended
    return int(process.memory_info().rss)
