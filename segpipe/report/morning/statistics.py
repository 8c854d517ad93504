"""What a night came to, in one small file: the mornings after compare with it, and read no rows."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from segpipe.report.morning.bins import Histogram, Scale, whole_numbers

FORMAT_VERSION = 1
MAX_CLASSES = 100
"""Classes that are counted one by one; the rarest of more are counted together."""

OTHERS = "(other classes)"
PER_MILLION = 1_000_000


@dataclass(frozen=True, slots=True)
class NightStatistics:
    """Numbers of one night.

    Attributes:
        run_ids: runs of the night, in order; one for each partition.
        source: what was listed, redacted.
        started, ended: ISO 8601, UTC; None where the record does not say.
        retry: nothing was done but what had failed before.
        failures: reason -> images.
        seconds: of wall time, of all runs together; None where no run ended.
        stages: seconds of each stage, of all workers together, as in the run records.
        empty: images without an object.
        saturated: images with as many objects as the limit.
        objects_per_image: of images that are ok.
        foreground: of images that are ok, their visible object pixels, in millionths of the image.
        area: class -> areas of its objects, px.
        score: class -> scores of its objects; empty where the method gives none.
    """

    run_ids: tuple[str, ...]
    source: str
    spec_id: str
    model: str
    device: str
    started: str
    ended: str | None
    retry: bool = False
    images: int = 0
    ok: int = 0
    objects: int = 0
    failures: Mapping[str, int] = field(default_factory=dict)
    seconds: float | None = None
    stages: Mapping[str, float] = field(default_factory=dict)
    empty: int = 0
    saturated: int = 0
    objects_per_image: Histogram = field(default_factory=whole_numbers)
    foreground: Histogram = field(default_factory=whole_numbers)
    area: Mapping[str, Histogram] = field(default_factory=dict)
    score: Mapping[str, Histogram] = field(default_factory=dict)
    format_version: int = FORMAT_VERSION

    @property
    def failed(self) -> int:
        return self.images - self.ok

    @property
    def images_per_second(self) -> float | None:
        return self.images / self.seconds if self.seconds and self.images else None

    @property
    def areas(self) -> Histogram:
        """Of all classes."""
        return Histogram.sum("whole", self.area.values())

    @property
    def scores(self) -> Histogram:
        """Of all classes."""
        return Histogram.sum("unit", self.score.values())

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        found = {name: getattr(self, name) for name in self.__slots__}
        for name in ("objects_per_image", "foreground"):
            found[name] = found[name].to_dict()
        for name in ("area", "score"):
            found[name] = {key: one.to_dict() for key, one in found[name].items()}
        return found

    def to_json(self) -> str:
        return json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"), allow_nan=False)

    @classmethod
    def from_json(cls, text: str | bytes) -> NightStatistics:
        """Read it back.

        Raises:
            ValueError, KeyError, TypeError: it is none, or of another format version.
        """
        raw: dict[str, Any] = json.loads(text)
        if raw["format_version"] != FORMAT_VERSION:
            raise ValueError(f"statistics of format version {raw['format_version']!r}")
        for name in ("objects_per_image", "foreground"):
            raw[name] = Histogram.from_dict(raw[name])
        for name in ("area", "score"):
            raw[name] = {key: Histogram.from_dict(one) for key, one in raw[name].items()}
        return cls(**{**raw, "run_ids": tuple(raw["run_ids"])})


def merge_rare(scale: Scale, classes: Mapping[str, Histogram]) -> dict[str, Histogram]:
    """The `MAX_CLASSES` most frequent classes, and all others as one."""
    ranked = sorted(classes, key=lambda name: (-classes[name].total, name))
    kept = {name: classes[name] for name in sorted(ranked[:MAX_CLASSES])}
    if rest := ranked[MAX_CLASSES:]:
        kept[OTHERS] = Histogram.sum(scale, [classes[name] for name in rest])
    return kept


def add_counts(parts: Sequence[Mapping[str, int]]) -> dict[str, int]:
    """Counts of several runs, the most frequent first."""
    total: Counter[str] = Counter()
    for part in parts:
        total.update(part)
    return dict(total.most_common())
