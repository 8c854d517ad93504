"""How long it takes to merge the objects of a slide's tiles, and how much has to wait in memory.

Discs lie on a grid, each moved at random, and are answered tile by tile as a network would: where
two tiles see one of them, its radius may differ by a pixel. Making them is not timed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import psutil

from segpipe.bench.conditions import Conditions
from segpipe.bench.processes import peak_bytes, resident_bytes
from segpipe.bench.table import table
from segpipe.geometry import Box
from segpipe.masks.seams import Verdict, merge, near_seams
from segpipe.planning.tiles import Tile, Tiling, plan_tiles
from segpipe.records import CroppedMask, Instances

SPACING = 40
"""Pixels between the discs, on average; as many as the nuclei of a slide at 0.25 um."""

RADII = 6, 16
"""From the first to below the second, pixels."""

ALIGN = 1024
_MB = 1e6


@dataclass(frozen=True, slots=True)
class Slide:
    """Discs on an image, and how it is cut."""

    objects: int
    core_side: int = 2048
    halo: int = 64


@dataclass(frozen=True, slots=True)
class SeamTimes:
    """What merging them came to.

    Attributes:
        objects: on the slide.
        side: of the slide, pixels.
        tiles: it was cut into.
        versions: objects of all tiles; those near seams several times.
        waiting: versions that more than one tile may have seen.
        waiting_bytes: of their masks.
        merged: objects that came out.
        near_seams, merge: seconds of the two steps, of all tiles.
        base, peak: bytes of this process before the work, and at most.
    """

    objects: int
    side: int
    tiles: int
    versions: int
    waiting: int
    waiting_bytes: int
    merged: int
    near_seams: float
    merge: float
    base: int
    peak: int


def measure(slides: Sequence[Slide], observe: Callable[[str], None]) -> list[SeamTimes]:
    """One after the other; a small one goes ahead, for which the loops are compiled."""
    _measure(Slide(1000, core_side=ALIGN))
    outcomes = []
    for slide in slides:
        observe(f"{slide.objects:,} objects, cores of {slide.core_side}, halo of {slide.halo}")
        outcomes.append(_measure(slide))
    return outcomes


def _measure(slide: Slide) -> SeamTimes:
    centres, radii = _discs(slide.objects)
    side = int(np.ceil(centres.max() + RADII[1] + 2))
    tiling = plan_tiles((side, side), slide.core_side, slide.halo, ALIGN)
    seams, versions, settled, seconds = [], 0, 0, 0.0
    base = resident_bytes()
    for tile, found in _answers(tiling, centres, radii):
        began = time.perf_counter()
        seam = near_seams(tiling, tile, found)
        seconds += time.perf_counter() - began
        seams.append(seam)
        versions += len(found.masks)
        settled += len(seam.settled)
    began = time.perf_counter()
    merged = merge(tiling, seams)
    merging = time.perf_counter() - began
    kept = sum(int((own == Verdict.KEPT).sum()) for own in merged.verdicts.values())
    return SeamTimes(
        objects=len(radii),
        side=side,
        tiles=len(tiling),
        versions=versions,
        waiting=versions - settled,
        waiting_bytes=sum(len(seam.masks.bits) for seam in seams),
        merged=settled + kept,
        near_seams=seconds,
        merge=merging,
        base=base,
        peak=peak_bytes(psutil.Process()),
    )


def _discs(objects: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Centres (N, 2) in pixels, row by row, and radii (N,); always the same."""
    rng = np.random.default_rng(0)
    across = int(np.ceil(objects**0.5))
    places = np.stack(np.divmod(np.arange(objects), across), axis=1)
    moved = rng.integers(-SPACING // 8, SPACING // 8 + 1, places.shape)
    return SPACING * places + SPACING // 2 + moved, rng.integers(*RADII, objects)


def _answers(
    tiling: Tiling, centres: npt.NDArray[np.int64], radii: npt.NDArray[np.int64]
) -> Iterator[tuple[Tile, Instances]]:
    """Tile by tile; the objects that reach into it, cut at its edges."""
    across = int(np.ceil(len(radii) ** 0.5))
    numbers = np.arange(len(radii))
    shapes = [_disc(radius) for radius in range(RADII[1] + 1)]
    for number, tile in enumerate(tiling):
        box = tile.grown.grow(SPACING)
        rows = slice(max(0, box.y0 // SPACING) * across, (box.y1 // SPACING + 1) * across)
        y, x = centres[rows].T
        near = (y >= box.y0) & (y < box.y1) & (x >= box.x0) & (x < box.x1)
        # A number that looks random decides, so that a tile need not know of the others.
        smaller = (numbers[rows] * 2654435761 + number * 40503) >> 7 & 1
        masks = [
            crop
            for middle_y, middle_x, radius in zip(
                y[near].tolist(),
                x[near].tolist(),
                (radii[rows] - smaller)[near].tolist(),
                strict=True,
            )
            if (crop := _cut(shapes[radius], middle_y - radius, middle_x - radius, tile.grown))
        ]
        scores = np.linspace(1, 0.5, len(masks), dtype=np.float32)
        yield tile, Instances(tuple(masks), scores, np.ones(len(masks), np.int32))


def _disc(radius: int) -> npt.NDArray[np.bool_]:
    y, x = np.ogrid[-radius : radius + 1, -radius : radius + 1]
    return np.asarray(y**2 + x**2 <= radius**2)


def _cut(shape: npt.NDArray[np.bool_], y0: int, x0: int, window: Box) -> CroppedMask | None:
    """What of a shape at a place lies in a window."""
    box = Box(y0, x0, y0 + shape.shape[0], x0 + shape.shape[1])
    inside = box.intersect(window)
    if inside.empty:
        return None
    mask = shape[inside.shift(-y0, -x0).slices]
    return CroppedMask(inside.y0, inside.x0, mask) if mask.any() else None


def to_dict(outcomes: Sequence[SeamTimes], conditions: Conditions) -> Mapping[str, Any]:
    """Plain JSON."""
    found = [asdict(one) for one in outcomes]
    return {"benchmark": "seams", "slides": found, "conditions": asdict(conditions)}


def to_text(outcomes: Sequence[SeamTimes], conditions: Conditions) -> str:
    """A table for a terminal."""
    head = ("objects", "merged", "tiles", "waiting", "their masks, MB", "near_seams, s")
    rows: list[tuple[str, ...]] = [(*head, "merge, s", "peak, MB", "before, MB")]
    rows += [
        (
            *(f"{n:,}" for n in (one.objects, one.merged, one.tiles, one.waiting)),
            f"{one.waiting_bytes / _MB:,.1f}",
            *(f"{seconds:.1f}" for seconds in (one.near_seams, one.merge)),
            *(f"{size / _MB:,.0f}" for size in (one.peak, one.base)),
        )
        for one in outcomes
    ]
    return f"{table(rows)}\n\n{conditions.to_text()}"
