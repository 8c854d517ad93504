"""A run without a single worker: it waits, says so, and in the end gives up."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from segpipe.clusters import Cluster
from segpipe.errors import EngineError

NOTICE_SECONDS = 10.0
"""Without a worker, after which that is told: a nanny starts a dead one again in less."""

REMINDER_SECONDS = 600.0
"""Between two notices."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Patience:
    """Of a run whose cluster has no worker.

    Attributes:
        seconds: for which it waits; None for ever.
        place: where the workers are, for messages.
        advice: what a person can do.
    """

    seconds: float | None = 600.0
    place: str = "the cluster"
    advice: str = "look at the workers' logs"

    @classmethod
    def of(cls, cluster: Cluster) -> Patience:
        """As the table of a cluster says."""
        return cls(cluster.wait_seconds, cluster.place, cluster.advice)


class Vigil:
    """Looks at the number of workers again and again."""

    def __init__(self, patience: Patience, clock: Callable[[], float] = time.monotonic) -> None:
        self._patience = patience
        self._clock = clock
        self._alone_since: float | None = None
        self._next_notice = NOTICE_SECONDS

    def look(self, workers: int) -> None:
        """Tell it how many workers there are.

        Raises:
            EngineError: there has been none for too long.
        """
        if workers:
            if self._next_notice > NOTICE_SECONDS:
                log.warning("%s: %d workers have come", self._patience.place, workers)
            self._alone_since, self._next_notice = None, NOTICE_SECONDS
            return
        now = self._clock()
        self._alone_since = now if self._alone_since is None else self._alone_since
        waited, allowed = now - self._alone_since, self._patience.seconds
        if allowed is not None and waited >= allowed:
            raise EngineError(
                f"{self._patience.place}: no worker for {_span(allowed)}; {self._patience.advice}. "
                "What is committed stays: give the same command again, or wait longer with "
                "wait_minutes in the [cluster] table"
            )
        if waited >= self._next_notice:
            self._next_notice += REMINDER_SECONDS
            limit = (
                "for as long as it takes" if allowed is None else f"for {_span(allowed)} at most"
            )
            log.warning(
                "%s: waiting for workers, %s; %s",
                self._patience.place,
                limit,
                self._patience.advice,
            )


def _span(seconds: float) -> str:
    return f"{seconds / 60:g} minutes" if seconds >= 60 else f"{seconds:g} seconds"
