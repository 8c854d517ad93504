"""An alarm while a run goes on and commits nothing: raised by a thread of the flow's own process.

It sees what hangs inside: a worker, a network drive, a scheduler. A process that hangs or dies as a
whole is seen from outside, by `segpipe.flows.watch`.
"""

from __future__ import annotations

import contextvars
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from segpipe.progress import Progress

LOOK_SECONDS = 5.0
"""Between two looks at the clock; an alarm is late by so much at most."""

FAREWELL_SECONDS = 15.0
"""For which the end of a run waits for an alarm that is being sent."""

Say = Callable[[str], object]
"""Called with a sentence for people; may take its time, and does not raise."""


class StallWatch:
    """Tells once that nothing has moved for too long, and once that it moves again.

    It has no clock: whoever uses it says what time it is, in seconds.
    """

    def __init__(self, limit: float, say: Say, now: float) -> None:
        self.moved = now
        self._limit = limit
        self._say = say
        self._stalled = False

    def look(self, now: float) -> None:
        """Raise the alarm, or take it back, if it is time."""
        minutes = (now - self.moved) / 60
        stalled = now - self.moved >= self._limit
        if stalled and not self._stalled:
            self._say(f"nothing was committed for {minutes:.3g} minutes; the run is still at work")
        if self._stalled and not stalled:
            self._say("the run that had committed nothing for so long moves again")
        self._stalled = stalled


@contextmanager
def stall_alarm(
    minutes: float,
    say: Say,
    clock: Callable[[], float] = time.monotonic,
    wait: Callable[[threading.Event], bool] = lambda ended: ended.wait(LOOK_SECONDS),
) -> Iterator[Callable[[Progress], None]]:
    """Inside the block an alarm is raised when nothing moves; yields what takes note of progress.

    Args:
        minutes: without a commit.
        say: sends the alarm, from a thread: the run does not wait for it.
        clock: seconds.
        wait: until the next look; returns whether the block has ended.
    """
    watch = StallWatch(minutes * 60, say, clock())
    ended = threading.Event()

    def observe(_progress: Progress) -> None:
        """The plan is there, or a chunk more is committed."""
        watch.moved = clock()

    def look() -> None:
        while not wait(ended):
            watch.look(clock())
        watch.look(clock())

    # Prefect's own variables say which server there is.
    run = contextvars.copy_context().run
    thread = threading.Thread(target=run, args=(look,), name="segpipe-stall-alarm", daemon=True)
    thread.start()
    try:
        yield observe
    finally:
        ended.set()
        thread.join(FAREWELL_SECONDS)
