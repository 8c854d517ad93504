"""What planning came to, as a table and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from segpipe.bench.conditions import Conditions
from segpipe.bench.planning import Archive, Listed, Planned
from segpipe.bench.table import table
from segpipe.query.scratch import MEMORY

_MB = 1e6


@dataclass(frozen=True, slots=True)
class PlanningReport:
    """The nights that were planned, and the conditions."""

    archive: Archive
    nights: Sequence[Planned]
    conditions: Conditions
    listed: Listed | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return {
            "benchmark": "planning",
            "nights": [asdict(night) for night in self.nights],
            "listed": asdict(self.listed) if self.listed else None,
            "archive": asdict(self.archive),
            "conditions": asdict(self.conditions),
        }

    def to_text(self) -> str:
        """A table for a terminal."""
        head = ("images", "new", "chunks", "partitions", "planning, s", "reading it, s")
        rows: list[tuple[str, ...]] = [(*head, "peak, MB", "before, MB", "plan, MB")]
        rows += [
            (
                *(f"{n:,}" for n in (one.listed, one.planned, one.chunks, one.partitions)),
                *(f"{seconds:.1f}" for seconds in (one.seconds, one.reading)),
                *(f"{size / _MB:,.1f}" for size in (one.peak, one.base, one.plan_bytes)),
            )
            for one in self.nights
        ]
        listed = ""
        if one := self.listed:
            listed = (
                f"\n\nlisting a folder of {one.images:,} files: {one.seconds:.1f} s, "
                f"peak {one.peak / _MB:,.1f} MB, before {one.base / _MB:,.1f} MB"
            )
        return (
            f"{table(rows)}{listed}\n\n{self.archive.chunk_images} images in a chunk; the store's "
            f"rows in parts of {self.archive.part_images:,}; scratch database: {MEMORY}\n"
            f"{self.conditions.to_text()}"
        )
