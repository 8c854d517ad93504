"""Workers, made ready while the run does other things."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from multiprocessing import resource_tracker
from typing import Any

from distributed import Client

from segpipe.clusters import Cluster
from segpipe.engine.connect import connect
from segpipe.engine.demand import Demand
from segpipe.engine.patience import Patience
from segpipe.engine.worker import PLUGIN, ModelPlugin, Settings, Work, load_ahead, told_by
from segpipe.errors import EngineError
from segpipe.provenance.record import WorkerKind


@dataclass(frozen=True, slots=True)
class Staff:
    """Workers that are ready or about to be, and those that come later.

    Attributes:
        client: of their cluster.
        work: that they were started for.
        patience: without any.
        demand: what there is to do; adaptive scaling reads it.
        dismiss: lets them go; for who does not want to wait until the end of the block.
    """

    client: Client
    work: Work
    patience: Patience = field(default_factory=Patience)
    demand: Demand = field(default_factory=Demand)
    dismiss: Callable[[], object] = lambda: None
    _met: dict[str, Settings] = field(default_factory=dict)

    @property
    def kinds(self) -> tuple[WorkerKind, ...]:
        """What the run's record says of all that have come so far."""
        found = Counter(self._met.values())
        return tuple(
            WorkerKind(count, each.threads, dict(each.variables)) for each, count in found.items()
        )

    def meet(self, event: tuple[float, dict[str, Any]]) -> None:
        """A worker has the plugin. One that is started again keeps its name, and counts once."""
        self._met[event[1]["name"]] = told_by(event[1])


@contextmanager
def staffed(cluster: Cluster, work: Work, gpus: int = 0) -> Iterator[Future[Staff]]:
    """Inside the block workers start and load the model, and are gone when it ends.

    A thread does it. In this thread Ctrl-C is blocked, and so it is in every process that is
    started from it: a terminal sends it to all of them, but it is for the run alone.

    Args:
        cluster: settled.
        work: what the workers have to know.
        gpus: that torch can use on this machine; 0 when the run computes on a CPU.

    Raises:
        SpecError: a package that the kind of cluster needs is not installed.
    """
    demand = Demand()
    workers = connect(cluster, demand, gpus)
    with ThreadPoolExecutor(1, "segpipe-staff", _block_interrupts) as thread, ExitStack() as opened:

        def assemble() -> Staff:
            client = opened.enter_context(workers)
            staff = opened.enter_context(equipped(client, work, Patience.of(cluster), demand))
            return replace(staff, dismiss=lambda: thread.submit(opened.close))

        staff = thread.submit(assemble)
        try:
            yield staff
        finally:
            staff.exception()  # it must have come before it can go
            thread.submit(opened.close).result()


def _block_interrupts() -> None:
    # When it starts this helper, multiprocessing unblocks Ctrl-C in the thread that it is in.
    resource_tracker.ensure_running()
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})


@contextmanager
def equipped(
    client: Client, work: Work, patience: Patience | None = None, demand: Demand | None = None
) -> Iterator[Staff]:
    """Inside the block the workers of a cluster have the model of `work`, or are loading it.

    Raises:
        EngineError: a worker has another version of segpipe, or none.
    """
    _require_same_version(client, work.version)
    staff = Staff(client, work, patience or Patience(), demand or Demand())
    client.subscribe_topic(work.topic, staff.meet)
    client.register_plugin(ModelPlugin(work))
    client.run(load_ahead, wait=False, on_error="ignore")
    try:
        yield staff
    finally:
        if client.status == "running":  # else there is nobody to say it to
            with suppress(OSError):
                client.unsubscribe_topic(work.topic)
                client.unregister_worker_plugin(PLUGIN)


def _require_same_version(client: Client, version: str) -> None:
    def installed() -> str | None:  # travels whole: what a worker has is the question
        from importlib import metadata

        try:
            return metadata.version("segpipe")
        except metadata.PackageNotFoundError:
            return None

    for worker, found in client.run(installed, on_error="ignore").items():
        if found != version:
            has = f"segpipe {found}" if found else "no segpipe"
            raise EngineError(
                f"the worker {worker} has {has}, and this run is of segpipe {version}; install the "
                "same version on all machines"
            )
