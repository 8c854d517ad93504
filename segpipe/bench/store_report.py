"""What the store takes, as tables and as JSON, with the conditions it was measured under."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from segpipe.bench.conditions import Conditions
from segpipe.bench.pasting import SHAPE, Pasting
from segpipe.bench.store import Commits, Masks, Table
from segpipe.bench.table import table
from segpipe.bench.timing import Timing

_MILLISECONDS = 1000.0
_MEGABYTE = 1e6


@dataclass(frozen=True, slots=True)
class StoreReport:
    """All parts, and the conditions; images are squares of `side` pixels."""

    side: int
    rounds: int
    masks: Masks
    objects: Table
    commit: Commits
    pasting: Pasting
    conditions: Conditions

    @property
    def images_per_core_second(self) -> float:
        """Masks written and read back."""
        return self.masks.images / (self.masks.write.core + self.masks.read.core)

    @property
    def times_torchvision(self) -> float:
        """How many times as long pasting alone takes in torchvision."""
        return self.pasting.torchvision / self.pasting.finish.wall

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON; times in seconds, sizes in bytes."""
        return {
            **asdict(self),
            "masks_per_core_second": self.images_per_core_second,
            "times_torchvision": self.times_torchvision,
        }

    def to_text(self) -> str:
        """Tables for a terminal."""
        return "\n\n".join([self._stored(), self._committed(), self._pasted(), self._conditions()])

    def _stored(self) -> str:
        masks, objects = self.masks, self.objects
        return table(
            [
                (f"masks, {self.side} x {self.side}", "per second", "per core", "bytes each"),
                _rate("write", masks.images, masks.write, masks.size),
                _rate("read back", masks.images, masks.read, masks.size),
                (
                    "both" if masks.intact else "both, and they DIFFER",
                    f"{masks.images / (masks.write.wall + masks.read.wall):,.0f}",
                    f"{self.images_per_core_second:,.0f}",
                    "",
                ),
                ("rows of objects", "", "", ""),
                _rate("gather", objects.rows, objects.gather, objects.size),
                _rate("encode as Parquet", objects.rows, objects.encode, objects.size),
            ]
        )

    def _committed(self) -> str:
        objects, commit = self.objects, self.commit
        speed = objects.size / objects.encode.wall / _MEGABYTE
        return (
            f"Parquet: {speed:,.1f} MB/s\n"
            f"commit of a chunk of {commit.images} images: "
            f"{commit.seconds.wall * _MILLISECONDS:,.1f} ms; "
            f"{commit.syncs} fsyncs and {commit.files} files in the whole attempt"
        )

    def _pasted(self) -> str:
        pasting = self.pasting
        same = "the same pixels" if pasting.identical else "OTHER PIXELS"
        rows = {
            "paste and paint": pasting.finish.wall,
            "measure": pasting.measure.wall,
            f"run-length codes of {pasting.hidden}": pasting.encode.wall,
            f"torchvision's pasting ({same})": pasting.torchvision,
        }
        head = (f"{pasting.objects} objects, {SHAPE[0]} x {SHAPE[1]}", "ms", "x paste and paint")
        return table(
            [
                head,
                *(
                    (
                        name,
                        f"{took * _MILLISECONDS:,.1f}",
                        f"{took / pasting.finish.wall:,.2f}",
                    )
                    for name, took in rows.items()
                ),
            ]
        )

    def _conditions(self) -> str:
        images = f"{self.masks.images} images; median of {self.rounds} rounds after one to warm up"
        return f"{images}\n{self.conditions.to_text()}"


def _rate(name: str, count: int, took: Timing, size: int) -> tuple[str, str, str, str]:
    core = max(took.core, 1e-9)
    return name, f"{count / took.wall:,.0f}", f"{count / core:,.0f}", f"{size / count:,.0f}"
