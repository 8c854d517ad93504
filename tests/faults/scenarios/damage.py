"""Files that are damaged in every way, read by the thousand (see `tests.faults.fuzz`)."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

from tests.faults.fuzz import KINDS, fuzz
from tests.faults.scenarios.runs import Violations


def read_damaged_files(times: int, rng: random.Random, folder: Path) -> Iterator[Violations]:
    """As many of each kind."""
    for kind in KINDS:
        report = fuzz(kind, -(-times // len(KINDS)), rng.randrange(1 << 31))
        bad = {violation.index: violation.what for violation in report.violations}
        for index in range(report.times):
            yield [f"{kind} {index}: {bad[index]}"] if index in bad else []
