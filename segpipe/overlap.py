"""Run a generator ahead of its consumer: the one mechanism by which stages overlap."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _End:
    """The last thing in the queue: the generator stopped, by itself or with an error."""

    error: BaseException | None = None


def overlap(items: Iterable[T], ahead: int) -> Iterator[T]:
    """The items of `items`, produced by a thread of its own while the consumer works.

    Args:
        items: iterated in the new thread, from its start to its end.
        ahead: how many items may wait; 0 for no thread at all, one item at a time.

    The order is kept, an error of the producer is raised at its place in the order, and a
    consumer that stops early stops the producer and waits for it.
    """
    return iter(items) if ahead == 0 else _threaded(items, ahead)


def _threaded(items: Iterable[T], ahead: int) -> Generator[T, None, None]:
    waiting: queue.Queue[T | _End] = queue.Queue(ahead)
    stopped = threading.Event()

    def produce() -> None:
        end = _End()
        try:
            for item in items:
                if not _put(waiting, item, stopped):
                    break
        except BaseException as error:
            end = _End(error)
        finally:
            if isinstance(items, Generator):
                items.close()
        _put(waiting, end, stopped)

    producer = threading.Thread(target=produce, name="segpipe-overlap", daemon=True)
    producer.start()
    try:
        while not isinstance(item := waiting.get(), _End):
            yield item
        if item.error is not None:
            raise item.error
    finally:
        stopped.set()
        producer.join()


def _put(waiting: queue.Queue[T | _End], item: T | _End, stopped: threading.Event) -> bool:
    """Wait for a place in the queue; False once nobody takes from it any more."""
    while not stopped.is_set():
        try:
            waiting.put(item, timeout=0.1)
        except queue.Full:
            continue
        return True
    return False
