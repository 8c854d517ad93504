"""Run a generator ahead of its consumer: the one mechanism by which stages overlap."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _End:
    """The last thing in the queue: the generator stopped, by itself or with an error."""

    error: BaseException | None = None


def overlap(
    items: Iterable[T],
    ahead: int,
    weigh: Callable[[T], int] = lambda item: 0,  # noqa: ARG005
    budget: int = 0,
) -> Iterator[T]:
    """The items of `items`, produced by a thread of its own while the consumer works.

    Args:
        items: iterated in the new thread, from its start to its end.
        ahead: how many items may wait; 0 for no thread at all, one item at a time.
        weigh: what an item counts for while it waits, at least 0.
        budget: what all that wait may weigh together; an item that weighs more waits alone.

    The order is kept, an error of the producer is raised at its place in the order, and a
    consumer that stops early stops the producer and waits for it.
    """
    return iter(items) if ahead == 0 else _threaded(items, _Queue(ahead, weigh, budget))


class _Queue(Generic[T]):
    """First in, first out, between two threads; bounded in number and in weight.

    What waits weighs no more than `budget`, unless it is a single item.
    """

    def __init__(self, places: int, weigh: Callable[[T], int], budget: int) -> None:
        self._places = places
        self._weigh = weigh
        self._budget = budget
        self._waiting: deque[tuple[T | _End, int]] = deque()
        self._weight = 0
        self._closed = False
        self._changed = threading.Condition()

    def put(self, item: T | _End) -> bool:
        """Wait until there is room; False once nobody takes from the queue any more."""
        weight = 0 if isinstance(item, _End) else self._weigh(item)
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._fits(weight))
            if not self._closed:
                self._waiting.append((item, weight))
                self._weight += weight
                self._changed.notify()
            return not self._closed

    def take(self) -> T | _End:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting)
            item, weight = self._waiting.popleft()
            self._weight -= weight
            self._changed.notify()
            return item

    def close(self) -> None:
        """Nobody will take any more; what waits is dropped, and who wants to put is let go."""
        with self._changed:
            self._closed = True
            self._waiting.clear()
            self._changed.notify()

    def _fits(self, weight: int) -> bool:
        return not self._waiting or (
            len(self._waiting) < self._places and self._weight + weight <= self._budget
        )


def _threaded(items: Iterable[T], queue: _Queue[T]) -> Generator[T, None, None]:
    def produce() -> None:
        end = _End()
        try:
            for item in items:
                if not queue.put(item):
                    break
                del item  # Nothing that was handed on is kept in memory from here.
        except BaseException as error:
            end = _End(error)
        finally:
            if isinstance(items, Generator):
                items.close()
        queue.put(end)

    producer = threading.Thread(target=produce, name="segpipe-overlap", daemon=True)
    producer.start()
    try:
        while not isinstance(item := queue.take(), _End):
            yield item
        if item.error is not None:
            raise item.error
    finally:
        queue.close()
        producer.join()
