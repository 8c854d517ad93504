"""What an image costs that is looked at part by part, beside small images of the same content.

Simulated fields lie side by side in one tiled TIFF; the same fields are files of their own. Both go
the way of every chunk, in turn, in this process.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt
import psutil
import tifffile

from segpipe.batching import Capacity
from segpipe.bench.conditions import Conditions
from segpipe.bench.processes import peak_bytes, resident_bytes
from segpipe.bench.table import table
from segpipe.demo_fields import simulate_field
from segpipe.pipeline import process_chunk
from segpipe.readers import list_collection
from segpipe.records import Chunk
from segpipe.segmenters.base import Segmenter
from segpipe.segmenters.build import build
from segpipe.segmenters.catalog import resolve_model
from segpipe.store import create_store

FIELD = 512
"""Side of the small images, pixels."""

NUCLEI = 60
"""In each of them."""

DIFFERENT = 64
"""Fields; larger images repeat them."""


@dataclass(frozen=True, slots=True)
class Cost:
    """Of an image and of the same fields by themselves.

    Attributes:
        side: of the image, pixels.
        seconds, small_seconds: for each megapixel; the median of the rounds.
        objects, small_objects: found.
        base, peak: bytes of this process before the image was looked at first, and at most since.
    """

    side: int
    seconds: float
    small_seconds: float
    objects: int
    small_objects: int
    base: int
    peak: int

    @property
    def ratio(self) -> float:
        """What a megapixel of the image costs, as a multiple of one of small images."""
        return self.seconds / self.small_seconds


def measure(
    model: str, sides: Sequence[int], rounds: int, folder: Path, observe: Callable[[str], None]
) -> list[Cost]:
    """Images of each side, the smallest first; multiples of `FIELD` that are over the tile budget.

    Args:
        model: one that looks at parts.
        folder: empty; images and stores go there.
    """
    most = {"max_pixels": min(sides) ** 2 - 1}
    found = resolve_model(model, "a benchmark", limits=most)
    segmenter = build(found.spec, found.weights_path)
    rng = np.random.default_rng(0)
    fields = [simulate_field(rng, (FIELD, FIELD), NUCLEI)[0] for _ in range(DIFFERENT)]
    warm = folder / "warm"
    _small(warm, fields[:2])
    _process(warm, segmenter, "first")
    costs = []
    for side in sorted(sides):
        observe(f"an image of {side:,} x {side:,} pixels and {(side // FIELD) ** 2:,} small ones")
        costs.append(_cost(segmenter, side, fields, rounds, folder / str(side)))
    return costs


def _cost(
    segmenter: Segmenter[Any, Any],
    side: int,
    fields: Sequence[npt.NDArray[np.uint16]],
    rounds: int,
    folder: Path,
) -> Cost:
    count = (side // FIELD) ** 2
    small, large = folder / "small", folder / "large"
    _small(small, [fields[number % DIFFERENT] for number in range(count)])
    _large(large, side, fields)
    times: dict[Path, list[float]] = {small: [], large: []}
    objects: dict[Path, int] = {}
    base = resident_bytes()
    for number in range(rounds):
        for place in (small, large):
            began = time.perf_counter()
            objects[place] = _process(place, segmenter, f"round-{number}")
            times[place].append((time.perf_counter() - began) / (side * side / 1e6))
    return Cost(
        side=side,
        seconds=median(times[large]),
        small_seconds=median(times[small]),
        objects=objects[large],
        small_objects=objects[small],
        base=base,
        peak=peak_bytes(psutil.Process()),
    )


def _process(place: Path, segmenter: Segmenter[Any, Any], store: str) -> int:
    """The objects that are found in the images of a folder."""
    refs = tuple(list_collection(str(place / "images")))
    chunk = Chunk(segmenter.spec.spec_id, refs)
    commit = process_chunk(
        chunk, segmenter, create_store(place / store), "bench", capacity=Capacity()
    )
    return commit.n_objects


def _small(place: Path, fields: Sequence[npt.NDArray[np.uint16]]) -> None:
    (place / "images").mkdir(parents=True)
    for number, field in enumerate(fields):
        tifffile.imwrite(place / "images" / f"{number:06d}.tif", field, compression="zlib")


def _large(place: Path, side: int, fields: Sequence[npt.NDArray[np.uint16]]) -> None:
    (place / "images").mkdir(parents=True)

    def tiles() -> Iterator[npt.NDArray[np.uint16]]:
        for number in range((side // FIELD) ** 2):
            yield fields[number % DIFFERENT]

    tifffile.imwrite(
        place / "images" / "large.tif", tiles(), shape=(side, side), dtype=np.uint16,
        tile=(FIELD, FIELD), compression="zlib", photometric="minisblack", metadata=None,
        bigtiff=True,
    )  # fmt: skip


def to_dict(costs: Sequence[Cost], model: str, conditions: Conditions) -> Mapping[str, Any]:
    """Plain JSON."""
    found = [{**asdict(one), "ratio": one.ratio} for one in costs]
    about = {"benchmark": "large", "model": model}
    return {**about, "images": found, "conditions": asdict(conditions)}


def to_text(costs: Sequence[Cost], model: str, conditions: Conditions) -> str:
    """A table for a terminal."""
    rows: list[tuple[str, ...]] = [
        ("side", "objects", "in small ones", "s/MP", "small, s/MP", "ratio", "peak, MB", "before")
    ]
    rows += [
        (
            *(f"{n:,}" for n in (one.side, one.objects, one.small_objects)),
            *(f"{s:.3f}" for s in (one.seconds, one.small_seconds)),
            f"{one.ratio:.2f}",
            *(f"{size / 1e6:,.0f}" for size in (one.peak, one.base)),
        )
        for one in costs
    ]
    return f"{model}\n{table(rows)}\n\n{conditions.to_text()}"
