"""What an image costs that is looked at part by part, beside small images of the same content.

Simulated fields lie side by side in one tiled TIFF; the same fields are files of their own. Both go
the way of every chunk, in turn, in a process with the environment of a worker: with another
allocator, which pages tensors in for each layer, large tiles are the slower ones.
"""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from itertools import product
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
from segpipe.engine import worker_environment
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
class Question:
    """
    Attributes:
        model: one that looks at parts.
        precision: as `RunSpec` takes it.
        rounds: whose median counts.
    """

    model: str
    precision: str
    rounds: int


@dataclass(frozen=True, slots=True)
class Cost:
    """Of an image and of the same fields by themselves.

    Attributes:
        precision: that was computed in.
        side: of the image, pixels.
        tile: side of what is looked at at a time, pixels.
        seconds, small_seconds: for each megapixel; the median of the rounds.
        objects, small_objects: found.
        base, peak: bytes of the process before the image was looked at first, and at most since.
    """

    precision: str
    side: int
    tile: int
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
    question: Question,
    sides: Sequence[int],
    tiles: Sequence[int | None],
    folder: Path,
    observe: Callable[[str], None],
) -> list[Cost]:
    """Images of each side in tiles of each side, each in a process of its own.

    Args:
        sides: of images, multiples of `FIELD` that are over the tile budget.
        tiles: None for what suits the model.
        folder: empty; images and stores go there.
    """
    spawn, threads = multiprocessing.get_context("spawn"), len(os.sched_getaffinity(0))
    costs = []
    for number, (side, tile) in enumerate(product(sorted(sides), tiles)):
        observe(f"an image of {side:,} x {side:,} pixels and {(side // FIELD) ** 2:,} small ones")
        with worker_environment(threads), ProcessPoolExecutor(1, mp_context=spawn) as process:
            place = folder / str(number)
            costs.append(process.submit(_cost, question, side, tile, place, threads).result())
    return costs


def _cost(question: Question, side: int, tile: int | None, folder: Path, threads: int) -> Cost:
    found = resolve_model(
        question.model,
        "a benchmark",
        precision=question.precision,
        limits={"max_pixels": side * side - 1},
        tiles={"side": tile},
    )
    segmenter = build(found.spec, found.weights_path, threads)
    assert segmenter.spec.tiles is not None
    rng = np.random.default_rng(0)
    fields = [simulate_field(rng, (FIELD, FIELD), NUCLEI)[0] for _ in range(DIFFERENT)]
    warm = folder / "warm"
    _small(warm, fields[:2])
    _process(warm, segmenter, "first")
    count = (side // FIELD) ** 2
    small, large = folder / "small", folder / "large"
    _small(small, [fields[number % DIFFERENT] for number in range(count)])
    _large(large, side, fields)
    times: dict[Path, list[float]] = {small: [], large: []}
    objects: dict[Path, int] = {}
    base = resident_bytes()
    for number in range(question.rounds):
        for place in (small, large):
            began = time.perf_counter()
            objects[place] = _process(place, segmenter, f"round-{number}")
            times[place].append((time.perf_counter() - began) / (side * side / 1e6))
    return Cost(
        precision=segmenter.spec.precision,
        side=side,
        tile=segmenter.spec.tiles.side,
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
    names = (
        "precision, side, tile, objects, in small ones, s/MP, s/MP of small ones, ratio, peak MB,"
        " before"
    )
    rows = [tuple(names.split(", "))]
    rows += [
        (
            one.precision,
            *(f"{n:,}" for n in (one.side, one.tile, one.objects, one.small_objects)),
            *(f"{s:.3f}" for s in (one.seconds, one.small_seconds)),
            f"{one.ratio:.2f}",
            *(f"{size / 1e6:,.0f}" for size in (one.peak, one.base)),
        )
        for one in costs
    ]
    return f"{model}\n{table(rows)}\n\n{conditions.to_text()}"
