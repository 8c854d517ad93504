"""What archives of several sizes cost, as a table and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from segpipe.bench.conditions import Conditions
from segpipe.bench.scale import MODEL, Scale
from segpipe.bench.table import table

BASE_IMAGES = 1000
"""The cost per image is compared with that of the smallest collection that has as many."""

_MILLISECONDS = 1000.0
_MB = 1e6


@dataclass(frozen=True, slots=True)
class ScaleReport:
    """Outcomes, smallest first, and the conditions; `side` of an image in pixels."""

    outcomes: Sequence[Scale]
    side: int
    conditions: Conditions

    def growth(self, outcome: Scale) -> float | None:
        """Its cost per image in units of that of the base; None for what is smaller."""
        if outcome.images < BASE_IMAGES:
            return None
        base = next(one for one in self.outcomes if one.images >= BASE_IMAGES)
        return outcome.per_image / base.per_image

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON; a list of sizes, and the conditions."""
        return {
            "benchmark": "scale",
            "sizes": [self._size(outcome) for outcome in self.outcomes],
            "conditions": {
                **asdict(self.conditions),
                "model": MODEL,
                "image": f"{self.side}x{self.side} uint8",
            },
        }

    def to_text(self) -> str:
        """Tables for a terminal."""
        return "\n\n".join([self._times(), self._store(), self._conditions()])

    def _size(self, one: Scale) -> dict[str, Any]:
        return {
            "images": one.images,
            "objects": one.objects,
            "milliseconds_per_image": one.per_image * _MILLISECONDS,
            "growth": self.growth(one),
            "late_against_early": one.late / one.early if one.late and one.early else None,
            "seconds": {
                "whole_command": one.whole,
                "resume_whole_command": one.resume,
                "resume_run": one.resume_run,
            },
            "peak_mb": {
                "driver": one.peaks.driver / _MB,
                "worker": one.peaks.worker / _MB,
                "resume": one.resume_peak / _MB,
            },
            "commits": one.commits,
            "files": one.files,
            "bytes": one.bytes,
            "bytes_per_object": one.bytes / one.objects if one.objects else None,
        }

    def _times(self) -> str:
        head = ("images", "ms per image", "growth", "late / early", "whole, s")
        rows: list[tuple[str, ...]] = [
            (*head, "nothing to do, s", "of it the run, s", "driver, MB", "worker, MB")
        ]
        for one in self.outcomes:
            found = self._size(one)
            rows.append(
                (
                    f"{one.images:,}",
                    f"{found['milliseconds_per_image']:.2f}",
                    _ratio(found["growth"]),
                    _ratio(found["late_against_early"]),
                    f"{one.whole:.1f}",
                    f"{one.resume:.1f}",
                    f"{one.resume_run:.2f}",
                    f"{found['peak_mb']['driver']:,.0f}",
                    f"{found['peak_mb']['worker']:,.0f}",
                )
            )
        return table(rows)

    def _store(self) -> str:
        head = ("images", "objects", "commits", "files", "MB", "bytes per object")
        rows: list[tuple[str, ...]] = [head]
        for one in self.outcomes:
            per_object = self._size(one)["bytes_per_object"]
            counts = (one.images, one.objects, one.commits, one.files)
            cells = (*(f"{count:,}" for count in counts), f"{one.bytes / _MB:,.1f}")
            rows.append((*cells, "-" if per_object is None else f"{per_object:,.0f}"))
        return table(rows)

    def _conditions(self) -> str:
        return (
            f"{MODEL} on {self.side} x {self.side} pixels; ms per image from the first commit to "
            f"the last; growth against {BASE_IMAGES:,} images, target 1.10\n"
            f"late / early: of one run, the last quarter of its chunks against the second\n"
            f"{self.conditions.to_text()}"
        )


def _ratio(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
