"""Ends this process when a decoder hangs in it.

No thread can be stopped, and a decoder that hangs may hold the interpreter's lock, so that no
Python code runs any more. The kernel's own alarm needs neither: where nobody handles SIGALRM, it
ends the process. Whoever watches the process must know what to do then; see `engine`.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

_AT_ONCE = 1e-3


class Watchdog:
    """The alarm of this process, of which there is only one; make it in the main thread.

    It costs a system call when something watched begins and one when it ends.
    """

    def __init__(self) -> None:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        self._lock = threading.Lock()
        self._ends: list[float] = []

    @contextmanager
    def watch(self, seconds: float) -> Iterator[None]:
        """End the process when the block takes longer; blocks of several threads may overlap."""
        end = time.monotonic() + seconds
        with self._lock:
            self._ends.append(end)
            self._arm()
        try:
            yield
        finally:
            with self._lock:
                self._ends.remove(end)
                self._arm()

    def _arm(self) -> None:
        left = max(min(self._ends) - time.monotonic(), _AT_ONCE) if self._ends else 0
        signal.setitimer(signal.ITIMER_REAL, left)
