"""Class numbers of an export, whose models may use one number for several names."""

from __future__ import annotations

from typing import Any


class Categories:
    """A number per (class id, name): the class id itself where that is free."""

    def __init__(self, first: int = 1) -> None:
        """`first` is the number of class id 1: formats count from 0 or from 1."""
        self._shift = first - 1
        self._ids: dict[tuple[int, str], int] = {}

    def id_of(self, class_id: int, name: str) -> int:
        if (class_id, name) not in self._ids:
            taken = set(self._ids.values())
            wanted = class_id + self._shift
            self._ids[class_id, name] = max(taken) + 1 if wanted in taken else wanted
        return self._ids[class_id, name]

    def to_list(self) -> list[dict[str, Any]]:
        """In COCO's words, by number."""
        return sorted(
            ({"id": number, "name": name} for (_, name), number in self._ids.items()),
            key=lambda category: int(category["id"]),
        )
