"""Which images of a night are worth a look: a few of each kind, chosen while rows go by."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
import numpy.typing as npt

from segpipe.report.morning.statistics import PER_MILLION

Floats = npt.NDArray[np.float64]

CHOSEN = {
    "random": 4,
    "most": 4,
    "count": 4,
    "score": 4,
    "change": 4,
    "foreground": 4,
    "saturated": 3,
    "failed": 4,
}
"""Pictures of each kind, at most, in the order of the page."""


@dataclass(frozen=True, slots=True)
class Change:
    """What became of the objects of an image since an earlier run."""

    run_id: str
    lost: int
    gained: int
    changed: int

    @property
    def objects(self) -> int:
        return self.lost + self.gained + self.changed


@dataclass(frozen=True, slots=True)
class Seen:
    """What a night's rows say of one image.

    Attributes:
        reason, detail: why it failed; None when ok.
        objects: None when failed, as what follows.
        score: median over its objects; None where it has none.
        foreground: its visible object pixels, in millionths of the image.
        before: the chunk of its newest result from before; None where there is none.
        change: since then, where the two were compared.
    """

    image_id: str
    chunk_id: str
    path: str
    reason: str | None = None
    detail: str | None = None
    objects: int | None = None
    score: float | None = None
    foreground: float | None = None
    before: str | None = None
    change: Change | None = None


class Most:
    """The images with the largest keys, of all that were offered; equal keys: the first path."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._kept: list[tuple[float, Seen]] = []

    def offer(self, keys: Floats, seen: Callable[[int], Seen]) -> None:
        """`seen(i)` is the image of key i; those whose key is NaN are none."""
        order = np.argsort(-keys, kind="stable")[: self._size]
        fresh = [(float(keys[i]), seen(int(i))) for i in order if not np.isnan(keys[i])]
        both = sorted([*self._kept, *fresh], key=lambda one: (-one[0], one[1].path))
        self._kept = both[: self._size]

    @property
    def images(self) -> list[Seen]:
        return [seen for _, seen in self._kept]


class Candidates:
    """Images that may be worth a look, whatever the night's medians turn out to be."""

    def __init__(self, seed: int, shortlist: int = 0) -> None:
        """
        Args:
            seed: of the random images.
            shortlist: how many images of a changed number of objects are kept.
        """
        self._rng = np.random.default_rng(seed)
        self._most = {
            name: Most(max(CHOSEN.values()))
            for name in ("many", "few", "full", "bare", "score", "saturated", "random")
        }
        self._changed = Most(shortlist)
        self._failed: defaultdict[str, list[Seen]] = defaultdict(list)

    def offer(
        self,
        objects: Floats,
        score: Floats,
        foreground: Floats,
        saturated: npt.NDArray[np.bool_],
        seen: Callable[[int], Seen],
    ) -> None:
        """Images that are ok, (N,) of each number; NaN where there is none."""
        for name, keys in (
            ("many", objects),
            ("few", -objects),
            ("full", foreground),
            ("bare", -foreground),
            ("score", -score),
            ("saturated", np.where(saturated, objects, np.nan)),
            ("random", self._rng.random(len(objects))),
        ):
            self._most[name].offer(keys, seen)

    def offer_changed(self, change: Floats, seen: Callable[[int], Seen]) -> None:
        """Images with earlier results; (N,) how much their number of objects changed."""
        self._changed.offer(change, seen)

    def shortlist(self) -> list[Seen]:
        """Those whose number of objects changed most."""
        return self._changed.images

    def offer_failed(self, images: Iterable[Seen]) -> None:
        """Images that failed; of each reason some are kept."""
        for image in images:
            kept = self._failed[image.reason or ""]
            if len(kept) < CHOSEN["failed"]:
                kept.append(image)

    def failed(self) -> list[Seen]:
        """Some of each reason, in the order of their coming."""
        return [image for images in self._failed.values() for image in images]

    def choose(
        self, objects: float | None, foreground: float | None, changed: Sequence[Seen] = ()
    ) -> list[tuple[Seen, tuple[str, ...]]]:
        """Images, each once, and of which kinds each is.

        Args:
            objects, foreground: the night's medians.
            changed: those of the shortlist that changed most.
        """
        most = {name: one.images for name, one in self._most.items()}
        unusual = _furthest([*most["many"], *most["few"]], lambda one: one.objects, objects, 1.0)
        share = _furthest(
            [*most["full"], *most["bare"]],
            lambda one: one.foreground,
            foreground,
            PER_MILLION / 1000,
        )
        kinds: dict[str, Iterable[Seen]] = {
            "random": most["random"],
            "most": (image for image in most["many"] if image.objects),
            "count": unusual,
            "score": most["score"],
            "change": changed,
            "foreground": share,
            "saturated": most["saturated"],
            "failed": _in_turn(list(self._failed.values())),
        }
        found: dict[str, tuple[Seen, tuple[str, ...]]] = {}
        for kind, images in kinds.items():
            for image in islice(images, CHOSEN[kind]):
                seen, own = found.get(image.image_id, (image, ()))
                seen = replace(seen, change=seen.change or image.change)
                found[image.image_id] = seen, (*own, kind)
        return list(found.values())


def _furthest(
    images: Iterable[Seen], number: Callable[[Seen], float | None], usual: float | None, unit: float
) -> list[Seen]:
    """The images whose number is furthest from the usual one, as a ratio; none that is equal."""

    def away(image: Seen) -> float:
        return abs(math.log(((number(image) or 0) + unit) / ((usual or 0) + unit)))

    different = {image.image_id: image for image in images if away(image) > 0}
    return sorted(different.values(), key=lambda image: (-away(image), image.path))


def _in_turn(groups: list[list[Seen]]) -> list[Seen]:
    """One of each group, then another of each: few are shown, of as many reasons as there are."""
    longest = max(map(len, groups), default=0)
    return [group[i] for i in range(longest) for group in groups if i < len(group)]
