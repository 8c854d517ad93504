"""Chunks with large images: their parts go out to all workers, and the chunk once more at the end.

A part whose worker died is tried again; if it dies again, the image is quarantined, and what is
left of its parts is not tried.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace

from segpipe.large.work import Part
from segpipe.pipeline import Care
from segpipe.records import Chunk

MAX_DEATHS = 2
"""Of workers, on one part."""


@dataclass(frozen=True, slots=True)
class Try:
    """A chunk, or a part of one of its large images, that is to be submitted.

    Attributes:
        unexplained: workers that died on it, with no image to blame.
        transient: failures of the store that might have passed.
    """

    chunk: Chunk
    care: Care
    part: Part | None = None
    unexplained: int = 0
    transient: int = 0


@dataclass(frozen=True, slots=True)
class Looked:
    """How far a run is with the large images that are in work: parts, of those that are known."""

    done: int
    total: int


@dataclass(slots=True)
class _Waiting:
    """A chunk whose parts are out."""

    chunk: Chunk
    care: Care
    parts: set[Part]
    total: int


@dataclass(slots=True)
class Spread:
    """What is to be submitted before any other chunk, and the chunks that wait for it."""

    _due: deque[Try] = field(default_factory=deque)
    _waiting: dict[str, _Waiting] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self._due)

    def next(self) -> Try | None:
        """What is due first."""
        return self._due.popleft() if self._due else None

    def begin(self, attempted: Try, parts: tuple[Part, ...]) -> None:
        """A chunk cannot be done before these are looked at."""
        chunk, care = attempted.chunk, attempted.care
        self._waiting[chunk.chunk_id] = _Waiting(chunk, care, set(parts), len(parts))
        self._due += (Try(chunk, care, part) for part in parts)

    def looked_at(self, chunk: Chunk, part: Part) -> Looked:
        """A part is done, be it of an image that is quarantined."""
        waiting = self._waiting.get(chunk.chunk_id)
        if waiting is not None:
            waiting.parts.discard(part)
        known = self._waiting.values()
        total = sum(one.total for one in known)
        looked = Looked(total - sum(len(one.parts) for one in known), total)
        if waiting is not None:
            self._close(waiting)
        return looked

    def died(self, attempted: Try) -> None:
        """The worker that looked at a part has died."""
        deaths = attempted.unexplained + 1
        if deaths < MAX_DEATHS:
            self._due.appendleft(replace(attempted, unexplained=deaths))
            return
        assert attempted.part is not None
        index, chunk_id = attempted.part.index, attempted.chunk.chunk_id
        waiting = self._waiting.get(chunk_id)
        if waiting is None:
            return  # other parts of the image have killed as many
        quarantined = waiting.care.quarantined | {index}
        waiting.care = replace(waiting.care, quarantined=quarantined)
        waiting.parts = {part for part in waiting.parts if part.index != index}
        self._due = deque(
            one
            for one in self._due
            if one.chunk.chunk_id != chunk_id or (one.part and one.part.index != index)
        )
        self._close(waiting)

    def _close(self, waiting: _Waiting) -> None:
        """Without a part that is missing the chunk itself is due."""
        if not waiting.parts:
            del self._waiting[waiting.chunk.chunk_id]
            self._due.appendleft(Try(waiting.chunk, waiting.care))
