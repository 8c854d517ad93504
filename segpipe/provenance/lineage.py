"""Events of a run for a lineage server, OpenLineage (https://openlineage.io), where one is named.

With `OPENLINEAGE_URL` set (and `OPENLINEAGE_API_KEY`, `OPENLINEAGE_ENDPOINT` and
`OPENLINEAGE_NAMESPACE`, as its clients know them) a run says START when its work begins, RUNNING
while it goes on, and COMPLETE, FAIL or ABORT when it ended. A thread of its own sends them: nothing
that goes wrong there stops a run, or slows it by more than `END_SECONDS` at its end. Without the
variable nothing of this is imported.
"""

from __future__ import annotations

import logging
import os
import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from segpipe.provenance.record import RunRecord
from segpipe.provenance.redact import redact_text

VARIABLE = "OPENLINEAGE_URL"
TIMEOUT_SECONDS = 5.0
"""Of one event."""

END_SECONDS = 5.0
"""For which a run that has ended waits until its last event is sent."""

Tell = Callable[[RunRecord], None]
"""Hears where a run stands."""

_log = logging.getLogger(__name__)


@contextmanager
def told_lineage() -> Iterator[Tell]:
    """Inside the block, what it yields sends a record's state on; nothing without the variable."""
    if not os.environ.get(VARIABLE):
        yield nobody
        return
    records: queue.SimpleQueue[RunRecord | None] = queue.SimpleQueue()
    thread = threading.Thread(target=_send, args=(records,), name="segpipe-lineage", daemon=True)
    thread.start()
    try:
        yield records.put
    finally:
        records.put(None)
        thread.join(END_SECONDS)
        if thread.is_alive():
            _log.warning("OpenLineage: no answer in %g s; the run is done without", END_SECONDS)


def nobody(record: RunRecord) -> None:
    """Who hears a run where no server is named."""


def is_on_the_way(record: RunRecord) -> bool:
    """Whether a record tells of a run that is at work and has done something."""
    return record.status == "running" and record.summary is not None


def _send(records: queue.SimpleQueue[RunRecord | None]) -> None:
    """In a thread: an event for each record, until there is None; the first problem is logged."""
    told = False
    client = None
    while (record := records.get()) is not None:
        if is_on_the_way(record) and not records.empty():
            continue  # a slow server is told what is newer, so that it hears of the end
        try:
            from segpipe.provenance.lineage_events import connect, run_event

            client = client or connect(TIMEOUT_SECONDS)
            client.emit(run_event(record))
        except ImportError as error:
            _log.warning(
                "%s is set, but no events are sent: %s; install segpipe[lineage]", VARIABLE, error
            )
            return
        except Exception as error:  # whatever a server, a proxy or a client comes up with
            if not told:
                _log.warning("OpenLineage: an event was not sent: %s", redact_text(str(error)))
            told = True
