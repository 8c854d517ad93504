"""One bit of one stored file flips; `fsck` must say so."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

from segpipe.store import layout, open_store
from segpipe.store.compaction import compact
from segpipe.store.forget import forget, plan_forgetting
from tests.faults.scenarios.runs import Violations, make_job, segment, unsound

NOT_CHECKED = (layout.LEASES, layout.STAGING)
"""What nobody has committed to."""


def flip_a_bit(times: int, rng: random.Random, folder: Path) -> Iterator[Violations]:
    """In a store with runs, a compaction, and a run that was forgotten."""
    job = make_job(folder)
    root = folder / "undisturbed"
    files = open_store(root).files
    forget(files, plan_forgetting(files, "undisturbed"))
    segment(root, job, "again")
    compact(files)
    stored = [
        path
        for path in sorted(root.rglob("*"))
        if path.is_file() and path.relative_to(root).parts[0] not in NOT_CHECKED
    ]
    for number in range(times):
        path = stored[number % len(stored)]
        good = path.read_bytes()
        place, bit = rng.randrange(len(good)), rng.randrange(8)
        path.write_bytes(good[:place] + bytes([good[place] ^ 1 << bit]) + good[place + 1 :])
        where = f"{path.relative_to(root)}: bit {bit} of byte {place}"
        yield [] if unsound(root) else [f"{where} flipped, and fsck found nothing"]
        path.write_bytes(good)
    if found := unsound(root):
        yield found
