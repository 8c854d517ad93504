"""What the routes work on: the store as it is now, and its images."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pyarrow.dataset as ds

from segpipe.errors import SpecError
from segpipe.spec import Limits, is_truth
from segpipe.store import Snapshot
from segpipe.store.snapshot import Row

FRESH_SECONDS = 2.0
"""For which a snapshot is taken for the newest."""


class Viewer:
    """A store that may still be written, as one process looks at it; safe to use from threads.

    Args:
        source: takes a new snapshot of the store.
        limits: what decoding one image may cost.
    """

    def __init__(self, source: Callable[[], Snapshot], limits: Limits | None = None) -> None:
        self._source = source
        self.limits = limits or Limits()
        self._endings: list[Callable[[], None]] = []
        self._lock = threading.Lock()
        self._snapshot = source()
        self._looked = time.monotonic()

    @property
    def name(self) -> str:
        """Address of the store."""
        return self._snapshot.files.address

    def snapshot(self) -> Snapshot:
        """The store, at most `FRESH_SECONDS` old; the same object as long as nothing is new."""
        with self._lock:
            if time.monotonic() - self._looked > FRESH_SECONDS:
                new = self._source()
                if new.parts("images") != self._snapshot.parts("images"):
                    self._snapshot = new
                self._looked = time.monotonic()
            return self._snapshot

    def find(self, image_id: str, run: str | None = None) -> Row:
        """The row of `images` of one image in one run; None for its newest.

        Raises:
            SpecError: there is none.
        """
        where = ds.field("image_id") == image_id
        if run is not None:
            where &= ds.field("run_id") == run
        found = self.snapshot().dataset("images").to_table(filter=where).to_pylist()
        if not found:
            raise SpecError(f"no image {image_id!r} in this store, or not in run {run!r}")
        # A truth that was imported is shown where it is asked for.
        models = [row for row in found if not is_truth(row["model"])] or found
        return max(models, key=lambda row: (row["run_id"], row["chunk_id"]))

    def at_the_end(self, what: Callable[[], None]) -> None:
        """Have something done by `close`."""
        self._endings.append(what)

    def close(self) -> None:
        """Give back what is held."""
        for ending in self._endings:
            ending()
