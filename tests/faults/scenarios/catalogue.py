"""All scenarios, and how often each is tried: in CI, and when there is an hour."""

from __future__ import annotations

from dataclasses import dataclass

from tests.faults.scenarios.bits import flip_a_bit
from tests.faults.scenarios.crashes import crash_at_each_step
from tests.faults.scenarios.damage import read_damaged_files
from tests.faults.scenarios.dask_processes import (
    kill_a_worker,
    kill_the_scheduler,
    poison_at_each_position,
)
from tests.faults.scenarios.kills import kill_two_overlapping_runs
from tests.faults.scenarios.object_storage import (
    fault_at_any_request,
    fault_at_each_conditional_put,
    two_runs_race,
)
from tests.faults.scenarios.overlaps import three_runs_at_once
from tests.faults.scenarios.power import lose_what_was_not_synced
from tests.faults.scenarios.prefect_gone import stop_or_kill_the_server
from tests.faults.scenarios.program import kill_the_program
from tests.faults.scenarios.readers import read_while_runs_write
from tests.faults.scenarios.refusals import (
    fail_at_each_step,
    full_disk,
    full_disk_on_a_cluster,
    reached_limits,
)
from tests.faults.scenarios.runs import Scenario
from tests.faults.scenarios.signals import stop_until_another_wins, terminate_or_interrupt

ALL = 10_000
"""More than there are."""


@dataclass(frozen=True)
class Entry:
    """A scenario.

    Attributes:
        fault: in a few words.
        ci, soak: how often, or for how many seconds; 0 where CI tests it elsewhere.
    """

    fault: str
    inject: Scenario
    ci: int
    soak: int

    @property
    def name(self) -> str:
        return self.inject.__name__


SCENARIOS = (
    Entry("SIGKILL at each change to the store", crash_at_each_step, 15, ALL),
    Entry("SIGKILL at random, two runs at once", kill_two_overlapping_runs, 100, 2000),
    Entry("SIGKILL of `segpipe run`, its driver, a worker", kill_the_program, 0, 60),
    Entry("SIGTERM, SIGINT at random", terminate_or_interrupt, 10, 100),
    Entry("SIGSTOP before a commit until another wins", stop_until_another_wins, 10, 100),
    Entry("three runs at once", three_runs_at_once, 5, 50),
    Entry("ENOSPC, EIO, EMFILE, EACCES at each change", fail_at_each_step, 40, ALL),
    Entry("a full file system (tmpfs)", full_disk, 20, 300),
    Entry("a full file system, Dask workers", full_disk_on_a_cluster, 3, 40),
    Entry("limits on open files and file length", reached_limits, 6, 200),
    Entry("power cut: unsynced writes lost, reordered", lose_what_was_not_synced, 20, 1000),
    Entry("a bit flip in any stored file", flip_a_bit, 50, 500),
    Entry("reads during runs (DuckDB, polars, pandas)", read_while_runs_write, 15, 600),
    Entry("Prefect server stopped, killed", stop_or_kill_the_server, 2, 8),
    Entry("Dask worker killed", kill_a_worker, 1, 20),
    Entry("Dask scheduler killed", kill_the_scheduler, 1, 10),
    Entry("a poison image at each place", poison_at_each_position, 4, 12),
    Entry("S3: each conditional PUT disturbed", fault_at_each_conditional_put, 0, ALL),
    Entry("S3: any request disturbed", fault_at_any_request, 0, 500),
    Entry("S3: two runs race, PUTs disturbed", two_runs_race, 0, 100),
    Entry("damaged image files and archives", read_damaged_files, 0, 90_000),
)
