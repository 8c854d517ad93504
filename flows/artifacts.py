"""What the Prefect interface shows of a run while it works and at its end."""

from __future__ import annotations

import contextvars
import logging
import threading
from collections.abc import Callable
from typing import Any

from prefect import get_run_logger
from prefect.artifacts import (
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)

from segpipe.execution import Run
from segpipe.progress import Progress

FAREWELL_SECONDS = 15.0
"""For which the end of a run waits for its last artifacts to be shown."""


class ShownProgress:
    """Artifacts in the Prefect interface, sent by a thread: a slow server makes nobody wait."""

    def __init__(self) -> None:
        self._artifact: Any = None
        self._percent = -1
        self._sending: threading.Thread | None = None
        self._lost = False

    def update(self, progress: Progress) -> None:
        """Show how far it is, unless the server is still busy with what it was told before."""
        if self._sending is not None and self._sending.is_alive():
            return
        percent = int(100 * progress.done / progress.total)
        if percent != self._percent:
            self._percent = percent
            self._send(self._show, percent, f"{progress.done:,} of {progress.total:,} images")

    def finish(self, run: Run) -> None:
        """Show the end and the failures, if the server answers."""
        rows = [
            {"image": image.path, "reason": image.reason, "detail": image.detail}
            for image in run.failures(limit=200)
        ]
        if self._answered():
            self.update(run.progress)
        if rows and self._answered():
            self._send(create_table_artifact, rows, key="segpipe-failures")
        if not self._answered():
            text = "the Prefect server does not answer: progress and failures are not shown there"
            logging.getLogger(__name__).warning(text)

    def _show(self, percent: int, description: str) -> None:
        if self._artifact is None:
            self._artifact = create_progress_artifact(percent, "segpipe-progress", description)
        else:
            update_progress_artifact(self._artifact, percent, description)

    def _send(self, show: Callable[..., Any], *arguments: Any, **named: Any) -> None:
        def send() -> None:
            try:
                show(*arguments, **named)
                self._lost = False
            except Exception as error:
                self._lost = True
                get_run_logger().warning("artifact not shown: %s", error)

        # Prefect's own variables say to which flow run an artifact belongs.
        run = contextvars.copy_context().run
        name = "segpipe-artifact"
        self._sending = threading.Thread(target=run, args=(send,), name=name, daemon=True)
        self._sending.start()

    def _answered(self) -> bool:
        """Whether the server has taken what it was told last; waits a while for it."""
        if self._sending is None:
            return True
        self._sending.join(FAREWELL_SECONDS)
        return not self._sending.is_alive() and not self._lost
