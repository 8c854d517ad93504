"""Images through the stages of a model: loaded, answered, handed on, one ahead of another.

The stages overlap through queues that are bounded in number and in bytes (see `planning.memory`);
images that are too large for that go alone, at the end. What is said of images here goes for the
tiles of a large one too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from segpipe.batching import Capacity, answer
from segpipe.clock import StageClock
from segpipe.items import Answered, Entry, Failure, Loaded, waiting_bytes
from segpipe.overlap import overlap
from segpipe.planning.memory import plan_passes
from segpipe.segmenters.base import Segmenter

READ_AHEAD = 8
"""Images that may wait between two stages, where memory allows it."""


def answers(
    entries: Sequence[Entry],
    load: Callable[[Entry], Loaded | Failure],
    segmenter: Segmenter[Any, Any],
    capacity: Capacity,
    clock: StageClock,
    ahead: int = READ_AHEAD,
) -> Iterator[Answered | Failure]:
    """What the model says of each image, or why it says nothing.

    Args:
        entries: neighbours of one shape go in batches.
        load: reads, decodes and prepares one; called in a thread of its own.
        ahead: images that may wait between two stages; 0 for no overlap.
    """
    costs = [entry.cost for entry in entries]
    batches = [segmenter.spec.batch_of(entry.header.shape) for entry in entries]
    for some in plan_passes(costs, capacity.budget.room, ahead, batches):
        bounds = some.ahead, waiting_bytes, some.queue_bytes
        loaded = overlap((load(entries[index]) for index in some.images), *bounds)
        loaded = clock.taking("wait_for_images", loaded)
        answered = answer(loaded, segmenter, some.batch, capacity, clock)
        answered = clock.giving("wait_for_room", answered)
        yield from overlap(answered, *bounds)
