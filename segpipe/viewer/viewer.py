"""What the routes work on: the store as it is now, its index, and pictures of its images."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from segpipe.errors import SegpipeError, SpecError
from segpipe.schema import TRUTH_MODELS
from segpipe.store import Snapshot
from segpipe.store.snapshot import Row
from segpipe.viewer.answers import Answers
from segpipe.viewer.index import Index
from segpipe.viewer.thumbnails import Thumbnails

FRESH_SECONDS = 3.0
"""For which a snapshot is taken for the newest."""

KEPT_ROWS = 256
"""Rows of images that were asked for last."""


class Viewer:
    """A store that may still be written, as one process looks at it; safe to use from threads.

    Args:
        source: takes a new snapshot of the store.

    Attributes:
        index: what filters need; holds what `snapshot()` holds.
        answers: questions to it.
        thumbnails: small pictures.
        trouble: why the store could not be looked at again; empty when it could.
    """

    def __init__(self, source: Callable[[], Snapshot]) -> None:
        self._source = source
        self._endings: list[Callable[[], None]] = []
        self._snapshot = source()
        self.index = Index()
        self.index.refresh(self._snapshot)
        self.answers = Answers(self.index)
        self.answers.prepare()
        self.thumbnails = Thumbnails()
        self.trouble = ""
        self._looking = threading.Lock()
        self._found: OrderedDict[Any, Row] = OrderedDict()
        self._finding = threading.Lock()
        self._looked = time.monotonic()

    @property
    def name(self) -> str:
        """Address of the store."""
        return self._snapshot.files.address

    def snapshot(self) -> Snapshot:
        """The store, at most `FRESH_SECONDS` old when it was asked for before.

        A new look is taken beside the question that finds it due, which does not wait.
        """
        due = time.monotonic() - self._looked > FRESH_SECONDS
        if due and self._looking.acquire(blocking=False):
            threading.Thread(target=self._look_again, name="segpipe-look", daemon=True).start()
        return self._snapshot

    def look(self) -> None:
        """The same, and wait for it."""
        due = time.monotonic() - self._looked > FRESH_SECONDS
        if due and self._looking.acquire(blocking=False):
            self._look_again()

    def _look_again(self) -> None:
        try:
            new = self._source()
            if new.parts("images") != self._snapshot.parts("images"):
                self.index.refresh(new)
                self._snapshot = new
                self.answers.prepare()
            self.trouble = ""
        except (SegpipeError, OSError) as error:
            self.trouble = str(error)
        finally:
            self._looked = time.monotonic()
            self._looking.release()

    def find(self, image_id: str, runs: str | Sequence[str] | None = None) -> Row:
        """The newest row of `images` of one image, in one run, in some, or (None) in any.

        Raises:
            SpecError: there is none.
        """
        asked = [runs] if isinstance(runs, str) else runs
        # A page asks for the same image tile by tile; a later look may have found other results.
        key = self.index.version, image_id, None if asked is None else tuple(asked)
        with self._finding:
            if key in self._found:
                self._found.move_to_end(key)
                return self._found[key]
        row = self._find(image_id, asked)
        with self._finding:
            self._found[key] = row
            while len(self._found) > KEPT_ROWS:
                self._found.popitem(last=False)
        return row

    def _find(self, image_id: str, asked: Sequence[str] | None) -> Row:
        found = self.index.ask(
            "SELECT run_id, chunk_id FROM image_rows WHERE image_id = $1 "  # noqa: S608 - ours
            "AND ($2 IS NULL OR list_contains($2, run_id)) "
            # A truth that was imported is shown where it is asked for.
            f"ORDER BY regexp_full_match(model, '{TRUTH_MODELS}'), run_id DESC, chunk_id DESC "
            "LIMIT 1",
            [image_id, None if asked is None else list(asked)],
        )
        snapshot = self.snapshot()
        for _, chunk_id in found:
            with suppress(SpecError):  # the index may hold more already than the snapshot
                return snapshot.image_row(image_id, chunk_id)
        within = f", run {', '.join(asked[:3])}" if asked else ""
        raise SpecError(f"no image {image_id[:80]!r} in this store{within}")

    def results_of(self, image_id: str) -> list[dict[str, str]]:
        """`run_id` and `model` of each run that has a result of an image, oldest first."""
        found = self.index.ask(
            "SELECT run_id, model FROM image_rows WHERE image_id = $1 AND status = 'ok' "
            "ORDER BY run_id",
            [image_id],
        )
        return [{"run_id": run_id, "model": model} for run_id, model in found]

    def chunks_of(self, image_ids: Sequence[str]) -> list[str]:
        """The chunks with a result of one of these images."""
        found = self.index.ask(
            "SELECT DISTINCT chunk_id FROM image_rows WHERE image_id IN (SELECT unnest($1))",
            [list(image_ids)],
        )
        return [chunk_id for (chunk_id,) in found]

    def at_the_end(self, what: Callable[[], None]) -> None:
        """Have something done by `close`."""
        self._endings.append(what)

    def close(self) -> None:
        """Give back what is held."""
        for ending in self._endings:
            ending()
        self.thumbnails.close()
        self.index.close()
