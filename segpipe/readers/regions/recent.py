"""The pieces that were decoded last, for regions that meet them again."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

Piece = TypeVar("Piece")


class Recent(Generic[Piece]):
    """At most `kept_bytes` of pieces; those go first that were not asked for longest.

    Safe to use from several threads; two that ask for one at a time may both make it.
    """

    def __init__(self, kept_bytes: int, size: Callable[[Piece], int]) -> None:
        self._room, self._size = kept_bytes, size
        self._lock = threading.Lock()
        self._kept: OrderedDict[Hashable, Piece] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], Piece]) -> Piece:
        """The piece of this key, made if it is not kept."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        piece = make()
        with self._lock:
            if key not in self._kept:
                self._kept[key] = piece
                self._room -= self._size(piece)
            while self._room < 0 and self._kept:
                self._room += self._size(self._kept.popitem(last=False)[1])
        return piece

    def clear(self) -> None:
        with self._lock:
            self._room += sum(map(self._size, self._kept.values()))
            self._kept.clear()
