"""A morning: all that is told of a night, as plain values; how it looks is the pages' matter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from segpipe.report.morning.bins import Histogram
from segpipe.report.morning.candidates import Seen
from segpipe.report.morning.columns import Column
from segpipe.report.morning.drift import Comparison
from segpipe.report.morning.pictures import Card
from segpipe.report.morning.statistics import NightStatistics
from segpipe.report.morning.wording import number, plural


@dataclass(frozen=True, slots=True)
class RunLine:
    """One run of the night; `status` is `died` where nobody said how it ended, and `running` while
    it is at work.
    """

    run_id: str
    status: str
    started: str
    ended: str | None
    error: str | None


@dataclass(frozen=True, slots=True)
class About:
    """By what it was done: text for people, None where the record does not say."""

    collection: str
    store: str
    model: str
    weights_sha256: str | None
    licence: str
    spec_id: str
    device: str
    precision: str
    workers: str
    platform: str
    version: str


@dataclass(frozen=True, slots=True)
class Counts:
    """Images of the collection.

    `listed` = `skipped` + `planned`, and once all is done `planned` = `ok` + `failed`. `missing`
    have results and are gone, `missing_new` of them since tonight; None where the listing cannot
    tell.
    """

    listed: int
    skipped: int
    ignored: int
    planned: int
    ok: int
    failed: int
    objects: int
    missing: int | None
    missing_new: int | None


@dataclass(frozen=True, slots=True)
class FailureLine:
    """A reason, how many images failed for it, and one of them."""

    reason: str
    images: int
    example: str
    detail: str


@dataclass(frozen=True, slots=True)
class Morning:
    """What a night came to.

    Attributes:
        earlier: the nights that it is compared with, oldest first.
        failed: images that failed, the first `collect.MAX_FAILED`.
        missing: paths of images that are gone since tonight, the first few.
        alarms: a sentence each, with the value, what was expected, and what to look at.
        notes: what a reader has to know of how this was counted.
        cards: images that are worth a look.
        per_image: class -> objects of it in an image.
        columns: that were asked for, class by class.
    """

    tonight: NightStatistics
    earlier: tuple[NightStatistics, ...]
    runs: tuple[RunLine, ...]
    about: About
    counts: Counts
    comparisons: tuple[Comparison, ...]
    failures: tuple[FailureLine, ...]
    failed: tuple[Seen, ...]
    missing: tuple[str, ...]
    alarms: tuple[str, ...]
    notes: tuple[str, ...]
    cards: tuple[Card, ...]
    per_image: Mapping[str, Histogram] = field(default_factory=dict)
    columns: tuple[Column, ...] = ()

    @property
    def at_work(self) -> bool:
        """Whether a run of it has not ended yet."""
        return any(run.status == "running" for run in self.runs)

    @property
    def headline(self) -> str:
        """The night in one line."""
        night = self.tonight
        alarms = plural(len(self.alarms), "alarm") if self.alarms else "no alarms"
        if not night.images:
            return f"nothing new, {self.counts.skipped:,} images done before; {alarms}"
        parts = [
            plural(night.images, "image"),
            f"{night.failed:,} failed",
            plural(night.objects, "object"),
        ]
        if night.images_per_second is not None:
            parts.append(f"{number(night.images_per_second)} images/s")
        so_far = " so far" if self.at_work else ""
        return f"{', '.join(parts)}{so_far}; {alarms}"

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON; the pictures themselves are not in it."""
        return {
            "headline": self.headline,
            "alarms": list(self.alarms),
            "notes": list(self.notes),
            "about": asdict(self.about),
            "runs": [asdict(run) for run in self.runs],
            "counts": asdict(self.counts),
            "seconds": self.tonight.seconds,
            "images_per_second": self.tonight.images_per_second,
            "stages": dict(self.tonight.stages),
            "classes": self._classes(),
            "columns": {
                one.name: {name: _quantiles(found) for name, found in one.classes.items()}
                for one in self.columns
            },
            "comparisons": {one.measure.key: one.to_dict() for one in self.comparisons},
            "compared_with": [list(night.run_ids) for night in self.earlier],
            "failures": [asdict(one) for one in self.failures],
            "failed": [asdict(one) for one in self.failed],
            "missing": list(self.missing),
            "images": [
                {**asdict(card.image), "kinds": list(card.kinds), "problem": card.problem}
                for card in self.cards
            ],
        }

    def _classes(self) -> Mapping[str, Mapping[str, float | None]]:
        night = self.tonight
        return {
            name: {
                "objects": area.total,
                "area": area.quantile(0.5),
                "score": night.score[name].quantile(0.5) if name in night.score else None,
            }
            for name, area in night.area.items()
        }

    def html(self) -> str:
        """One page that needs no other file and no network."""
        from segpipe.report.morning.page import page

        return page(self)

    def markdown(self) -> str:
        """The same in short, for a Prefect artifact."""
        from segpipe.report.morning.markdown import summary

        return summary(self)


def _quantiles(found: Histogram) -> Mapping[str, float | None]:
    """How many values there are, and where they lie."""
    quartiles = {"q25": 0.25, "median": 0.5, "q75": 0.75}
    return {"values": found.total} | {key: found.quantile(at) for key, at in quartiles.items()}
