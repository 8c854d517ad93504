"""Where work that takes a while stands: what is done, at what rate, and how long it will take."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Progress:
    """Where work stands.

    Attributes:
        done: images of this run.
        total: known from the start.
        parts, all_parts: of the large images in work, when one was looked at; 0 else.
    """

    done: int
    total: int
    ok: int
    failed: int
    objects: int
    seconds: float
    parts: int = 0
    all_parts: int = 0

    @property
    def rate(self) -> float:
        """Images per second so far."""
        return self.done / self.seconds if self.seconds > 0 else 0.0

    @property
    def seconds_left(self) -> float | None:
        """At the rate so far; None before the first image."""
        return (self.total - self.done) / self.rate if self.done else None

    @property
    def parts_seconds_left(self) -> float:
        """Until all parts that are known were looked at, at the rate so far."""
        return self.seconds * (self.all_parts - self.parts) / max(1, self.parts)


Observer = Callable[[Progress], None]


def watched(images: Iterable[T], total: int, observe: Observer | None) -> Iterator[T]:
    """The same images; `observe` hears where the work stands after each of them.

    Args:
        total: how many there are.
        observe: None for nobody.
    """
    started = time.perf_counter()
    for done, image in enumerate(images, 1):
        yield image
        if observe is not None:
            seconds = time.perf_counter() - started
            observe(Progress(done, total, ok=done, failed=0, objects=0, seconds=seconds))
