"""What a worker may hold in memory at a time, decided from headers before any pixel is read.

An image that fits alone is never refused. Where it fits alone only, it goes through the pipeline
alone; where stages may overlap, what is left over is shared by the queues between them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from segpipe.errors import BudgetError, InputError, Reason
from segpipe.records import Header
from segpipe.segmenters.base import Footprint

PLANNED = 0.9
"""Share of a worker's memory that is given out; a worker that takes more than 0.95 is stopped."""

MASK_BYTES = 160 << 20
"""For each stack of masks: what waits, compressed, for its shard to be full, and the writing of
that shard. 7 MB were measured for objects, 134 MB for noise; see `shapes.SHARD_BYTES`."""

OVERHEAD_BYTES = 256 << 20
"""For what is loaded after the model (compiled loops, codecs), for the rows of a chunk, and for
what was freed within a forward pass, but in pieces too small for what comes next."""

READ_FACTOR = 5
"""A decoder at its peak, in units of the pixels that it gives, besides the file. Measured: 1 to 4.8
(a CMYK JPEG, a BMP)."""

CENTIGB = 10_000_000
"""What amounts of memory are told in units of: a hundredth of 10^9 bytes."""

SMALLEST = Header(256, 256, 3, "uint8", "png", "")
"""A worker without room for such an image is not worth starting."""


@dataclass(frozen=True, slots=True)
class Cost:
    """Memory that one image takes in all, in bytes, at its peak in each stage.

    Attributes:
        waiting: while it waits between two stages.
    """

    load: int
    answer: int
    record: int
    waiting: int

    @property
    def alone(self) -> int:
        """When nothing else is in the pipeline."""
        return max(self.load, self.answer, self.record)

    @property
    def overlapped(self) -> int:
        """When there is an image like it in every stage and in each of the two queues."""
        return self.load + self.answer + self.record + 2 * self.waiting

    def joined(self, other: Cost) -> Cost:
        """Enough for either."""
        return Cost(
            load=max(self.load, other.load),
            answer=max(self.answer, other.answer),
            record=max(self.record, other.record),
            waiting=max(self.waiting, other.waiting),
        )


def image_cost(header: Header, file_bytes: int, footprint: Footprint) -> Cost:
    """The cost of an image, from its header and from what its segmenter says of it."""
    samples = header.height * header.width * header.channels
    pixels = samples * np.dtype(header.dtype).itemsize
    waiting = pixels + footprint.waiting
    # Measuring: the label image, and the pixels as float64, which most types are not turned into.
    measure = 4 * header.height * header.width + 8 * samples
    return Cost(
        load=max(file_bytes + READ_FACTOR * pixels, pixels + footprint.prepare),
        answer=waiting + footprint.forward,
        record=waiting + footprint.finish + measure,
        waiting=waiting,
    )


@dataclass(frozen=True, slots=True)
class Budget:
    """Memory of one worker, in bytes.

    Attributes:
        limit: what its process may use.
        taken: what is in use before an image comes, or kept free for other things.
    """

    limit: int
    taken: int

    @property
    def room(self) -> int:
        """For images."""
        return int(self.limit * PLANNED) - self.taken

    def limit_for(self, cost: Cost) -> int:
        """The limit with which an image would fit, rounded up to what a message can tell."""
        return math.ceil((cost.alone + self.taken + 1) / PLANNED / CENTIGB) * CENTIGB

    def check(self, cost: Cost) -> None:
        """
        Raises:
            InputError: `too_large`; the image does not fit even alone.
        """
        if cost.alone > self.room:
            raise InputError(Reason.TOO_LARGE, self._shortage(cost))

    def check_smallest(self, footprint: Footprint) -> None:
        """
        Raises:
            BudgetError: there is no room for any image.
        """
        cost = image_cost(SMALLEST, 0, footprint)
        if cost.alone > self.room:
            image = f"the model with an image of {SMALLEST.height} x {SMALLEST.width}"
            raise BudgetError(f"{image} {self._shortage(cost)}; allow more, or use fewer workers")

    def _shortage(self, cost: Cost) -> str:
        need, limit = gigabytes(self.limit_for(cost)), gigabytes(self.limit)
        return f"needs about {need} of memory; a worker may use {limit} (memory_gb)"


UNLIMITED = Budget(limit=1 << 62, taken=0)


def worker_budget(limit: int, resident: int, stacks: int) -> Budget:
    """The budget of a worker whose model is loaded.

    Args:
        limit: bytes that its process may use.
        resident: bytes that it uses already.
        stacks: of masks, which it will write.
    """
    return Budget(limit, resident + OVERHEAD_BYTES + stacks * MASK_BYTES)


@dataclass(frozen=True, slots=True)
class Pass:
    """Images of a chunk that go through the pipeline under one rule.

    Attributes:
        images: positions in the list that was planned, ascending.
        ahead: how many may wait before a stage; 0 for one image at a time, and no overlap.
        queue_bytes: what may wait before a stage.
        batch: images in a forward pass, at most.
    """

    images: tuple[int, ...]
    ahead: int
    queue_bytes: int
    batch: int


def plan_passes(costs: Sequence[Cost], room: int, ahead: int, batches: Sequence[int]) -> list[Pass]:
    """Share the room: first the images whose stages can overlap, then those that go alone.

    Args:
        costs: of images that fit the room alone.
        room: bytes.
        ahead: images that may wait before a stage where memory allows it; 0: all go alone.
        batches: of each image, how many like it go into a forward pass where memory allows it.
    """
    together: list[int] = []
    alone: list[int] = []
    largest = Cost(0, 0, 0, 0)
    for index in sorted(range(len(costs)), key=lambda i: costs[i].overlapped):
        grown = largest.joined(costs[index])
        if ahead and grown.overlapped <= room:
            largest = grown
            together.append(index)
        else:
            alone.append(index)
    passes = []
    if together:
        spare = room - largest.overlapped
        batch = max(batches[index] for index in together)
        more = max(costs[index].answer * (batches[index] - 1) for index in together)
        if more > spare:
            batch = 1 + min(batch - 1, spare // max(1, largest.answer))
            more = (batch - 1) * largest.answer
        queue_bytes = largest.waiting + (spare - more) // 2
        passes.append(Pass(tuple(sorted(together)), ahead, queue_bytes, batch))
    if alone:
        passes.append(Pass(tuple(sorted(alone)), 0, 0, 1))
    return passes


def gigabytes(size: int) -> str:
    """Bytes for people, rounded down: `2.15 GB`, with 10^9 bytes to one."""
    return f"{size // CENTIGB / 100:.2f} GB"
