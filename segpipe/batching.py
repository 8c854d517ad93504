"""Batches of one shape through the model, as large as its device has memory for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from segpipe.clock import StageClock
from segpipe.errors import InputError, Reason
from segpipe.items import Answered, Failure, Loaded, blame
from segpipe.planning.memory import UNLIMITED, Budget
from segpipe.segmenters.base import DeviceMemoryError, Segmenter

Shape = tuple[int, int]
"""(height, width)."""


class Ceilings:
    """The largest batch of each shape to try.

    One image at first, then twice as many as were seen to fit, until the spec's limit is reached or
    the device has refused a batch.
    """

    def __init__(self) -> None:
        self._fitted: dict[Shape, int] = {}
        self._largest: dict[Shape, int] = {}

    def limit(self, shape: Shape, size: int) -> int:
        """`size`, or less."""
        return min(size, self._largest.get(shape, size), max(1, 2 * self._fitted.get(shape, 0)))

    def raise_to(self, shape: Shape, fitted: int) -> None:
        """The device has taken a batch of `fitted` images."""
        self._fitted[shape] = max(fitted, self._fitted.get(shape, 0))

    def halve(self, shape: Shape, refused: int) -> None:
        """A batch of `refused` images, more than one, was too large."""
        self._largest[shape] = refused // 2

    def of(self, shapes: Iterable[Shape]) -> dict[str, int]:
        """Those of `shapes`, as a commit records them: `{"512x512": 2}`, height first."""
        known = sorted(set(shapes) & self._largest.keys())
        return {f"{height}x{width}": self._largest[height, width] for height, width in known}


def _do_nothing(needed: int) -> None:
    """For a process without a limit."""


@dataclass(frozen=True, slots=True)
class Capacity:
    """What a worker has room for: planned for its memory, learnt for its device.

    It lives as long as the loaded model does.

    Attributes:
        make_room: called before so many bytes are taken by a forward pass.
    """

    budget: Budget = UNLIMITED
    ceilings: Ceilings = field(default_factory=Ceilings)
    make_room: Callable[[int], None] = _do_nothing


def answer(
    loaded: Iterable[Loaded | Failure],
    segmenter: Segmenter[Any, Any],
    size: int,
    capacity: Capacity,
    clock: StageClock,
) -> Iterator[Answered | Failure]:
    """Send images through the model, neighbours of one shape in batches of at most `size`.

    The spec may allow fewer of a shape.
    """
    batch: list[Loaded] = []
    for item in loaded:
        if isinstance(item, Failure):
            yield item
            continue
        shape = item.entry.header.shape
        if batch and shape != batch[0].entry.header.shape:
            yield from _forward(batch, segmenter, capacity, clock)
            batch = []
        batch.append(item)
        if len(batch) >= capacity.ceilings.limit(shape, min(size, segmenter.spec.batch_of(shape))):
            yield from _forward(batch, segmenter, capacity, clock)
            batch = []
    yield from _forward(batch, segmenter, capacity, clock)


def _forward(
    batch: Sequence[Loaded],
    segmenter: Segmenter[Any, Any],
    capacity: Capacity,
    clock: StageClock,
) -> Iterator[Answered | Failure]:
    """One batch; smaller ones where the device's memory ends, and image by image on an error."""
    ceilings = capacity.ceilings
    while batch:
        first = batch[0].entry
        size = ceilings.limit(first.header.shape, len(batch))
        some, batch = batch[:size], batch[size:]
        capacity.make_room(first.cost.answer * size)
        match _try(some, segmenter, clock):
            case DeviceMemoryError() if size > 1:
                ceilings.halve(first.header.shape, size)
                batch = [*some, *batch]
            case DeviceMemoryError() as error:
                refused = InputError(Reason.DEVICE_OUT_OF_MEMORY, str(error)[:500])
                yield Failure.of(first.ref, refused, first.header)
            case Exception() if size > 1:
                for item in some:
                    yield from _forward([item], segmenter, capacity, clock)
            case Exception() as error:
                yield Failure.of(first.ref, blame(error), first.header)
            case answers:
                ceilings.raise_to(first.header.shape, size)
                yield from answers


def _try(
    batch: Sequence[Loaded], segmenter: Segmenter[Any, Any], clock: StageClock
) -> list[Answered] | Exception:
    """The answers, or the error, without the frames that it came through and all they hold."""
    try:
        with clock.stage("forward") as passing:
            raws = segmenter.forward([item.prepared for item in batch])
    except OSError:
        raise  # as of any stage: it is not the image's fault
    except Exception as error:
        return error.with_traceback(None)
    share = passing.seconds / len(batch)
    return [
        Answered(item.entry, item.image, raw, (item.seconds, share))
        for item, raw in zip(batch, raws, strict=True)
    ]
