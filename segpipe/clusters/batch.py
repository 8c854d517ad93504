"""Workers that are jobs of a batch system."""

from __future__ import annotations

import re
from typing import ClassVar, Literal

from pydantic import Field

from segpipe.clusters.base import Line, SizedCluster, Word


class BatchCluster(SizedCluster):
    """Workers that are jobs of a batch system; the scheduler is in the run itself.

    Attributes:
        queue: that the jobs wait in; None for the system's own choice.
        account: that pays for them.
        walltime: of a job, `[days-]hours:minutes:seconds`. A worker leaves some minutes before
            that, its chunk is done by another, and a new job takes its place.
        job_lines: more directives for the head of the job script, e.g. `--gres=gpu:1`.
        prologue: shell lines before the worker starts, e.g. `module load cuda`.
        python: that has segpipe, on the machines of the jobs; None for this one's.
        interface: network interface that they and this machine are connected by, e.g. `ib0`.
        log_folder: for what the jobs print; None for the system's own choice.
    """

    queue: Word | None = None
    account: Word | None = None
    walltime: str = Field(
        "01:00:00", pattern=r"^(\d+-)?\d{1,3}:\d\d:\d\d$", description="hours:minutes:seconds"
    )
    job_lines: tuple[Line, ...] = ()
    prologue: tuple[Line, ...] = ()
    python: Word | None = None
    interface: Word | None = None
    log_folder: Word | None = None

    usual_wait: ClassVar[float | None] = None

    @property
    def job_seconds(self) -> int:
        """The walltime."""
        days, hours, minutes, seconds = re.fullmatch(  # type: ignore[union-attr]
            r"(?:(\d+)-)?(\d+):(\d+):(\d+)", self.walltime
        ).groups(default="0")
        return 60 * (60 * (24 * int(days) + int(hours)) + int(minutes)) + int(seconds)


class Slurm(BatchCluster):
    """Each worker is a SLURM job (dask-jobqueue); `queue` is a partition."""

    kind: Literal["slurm"] = "slurm"

    advice: ClassVar[str] = "`squeue --me` shows what its jobs wait for"

    @property
    def place(self) -> str:
        return f"the SLURM queue {self.queue}" if self.queue else "SLURM"


class Pbs(BatchCluster):
    """Each worker is a PBS job (dask-jobqueue).

    Attributes:
        resources: for `-l`; None for `select=1:ncpus=<cores>:mem=<memory>`.
    """

    kind: Literal["pbs"] = "pbs"
    resources: Word | None = None

    advice: ClassVar[str] = "`qstat -u $USER` shows what its jobs wait for"

    @property
    def place(self) -> str:
        return f"the PBS queue {self.queue}" if self.queue else "PBS"
