"""The seconds of questions over many objects, as a table and as JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from segpipe.bench.conditions import Conditions
from segpipe.bench.query import QUESTIONS, QueryOutcome
from segpipe.bench.table import table


@dataclass(frozen=True, slots=True)
class QueryReport:
    """The outcome, and the conditions; medians of `rounds`."""

    outcome: QueryOutcome
    rounds: int
    conditions: Conditions

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON; seconds of each question over each layout, both ways."""
        found = self.outcome
        return {
            "benchmark": "query",
            "objects": found.objects,
            "seconds": {
                "making_the_store": found.made,
                "compacting": found.compacting,
                "before": asdict(found.before),
                "after": asdict(found.after),
            },
            "conditions": {**asdict(self.conditions), "rounds": self.rounds},
        }

    def to_text(self) -> str:
        """A table for a terminal."""
        before, after = self.outcome.before, self.outcome.after
        head = ("seconds", "segpipe query", "DuckDB alone", "compacted", "DuckDB alone", "gain")
        rows: list[tuple[str, ...]] = [head]
        for name in QUESTIONS:
            asked = (before.segpipe, before.plain, after.segpipe, after.plain)
            times = (f"{seconds[name]:.3f}" for seconds in asked)
            rows.append((name, *times, f"{before.segpipe[name] / after.segpipe[name]:.1f} x"))
        return (
            f"{table(rows)}\n\n"
            f"{self.outcome.objects:,} objects in {before.parts:,} parts, compacted to "
            f"{after.parts:,} in {self.outcome.compacting:.1f} s; median of {self.rounds} rounds\n"
            f"{self.conditions.to_text()}"
        )
