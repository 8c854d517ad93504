"""What is being forgotten, and what was."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass

from segpipe.store import layout
from segpipe.store.files import Files

TOMBSTONE = "tombstone.json"
"""In the folder of a run, beside its record."""


@dataclass(frozen=True, slots=True)
class Tombstone:
    """The results of a run that are removed, or were.

    Attributes:
        asked: ISO 8601, UTC.
        reason: in the words of whoever asked.
        chunks: chunk id -> name of the attempt.
    """

    run_id: str
    asked: str
    reason: str
    images: int
    objects: int
    chunks: dict[str, str]

    def to_json(self) -> bytes:
        return json.dumps(asdict(self), sort_keys=True, indent=1).encode()


def pending(files: Files) -> Iterator[Tombstone]:
    """Those whose removal was begun and is not finished."""
    for name in sorted(files.names(layout.FORGETTING)):
        try:
            text = files.read(f"{layout.FORGETTING}/{name}")
        except FileNotFoundError:  # another process has just finished it
            continue
        yield Tombstone(**json.loads(text))


def hidden_chunks(files: Files) -> set[str]:
    """Chunks that are being removed: no longer there for anybody who reads."""
    return {chunk_id for tombstone in pending(files) for chunk_id in tombstone.chunks}


def is_forgotten(files: Files, run_id: str) -> bool:
    return files.exists(layout.run_file(run_id, TOMBSTONE))
