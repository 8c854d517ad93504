"""How far two results of a class per pixel agree: pixels and Dice of each class."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Classes = npt.NDArray[np.unsignedinteger[Any]]
Names = Sequence[str]


@dataclass(frozen=True, slots=True)
class ClassDice:
    """One class, in one image or in all.

    Attributes:
        before, after, common: pixels that are of the class before, after, both times.
        dice: 2 common / (before + after) (Dice, Ecology 1945); None where both are 0.
    """

    class_name: str
    before: int
    after: int
    common: int

    @property
    def dice(self) -> float | None:
        whole = self.before + self.after
        return 2 * self.common / whole if whole else None

    def to_dict(self) -> dict[str, Any]:
        return {
            "class_name": self.class_name,
            "dice": self.dice,
            "pixels_before": self.before,
            "pixels_after": self.after,
            "pixels_common": self.common,
        }


def compare_classes(
    parts: Iterable[tuple[Classes, Classes]], known: tuple[Names, Names], shared: Names
) -> list[ClassDice]:
    """Count the pixels of two class images.

    Args:
        parts: before and after, (h, w) uint8 class ids; 0 is the background.
        known: the names by class id, before and after.
        shared: classes that are compared, by name.

    Returns:
        A row per class that is shared.
    """
    old, new = (_numbers(names, shared) for names in known)
    counts = np.zeros((3, 1 + len(shared)), np.int64)
    for before, after in parts:
        one, other = old[before], new[after]
        for count, pixels in zip(counts, (one, other, one[one == other]), strict=True):
            count += np.bincount(pixels.ravel(), minlength=count.size)
    return [
        ClassDice(name, *pixels) for name, pixels in zip(shared, counts.T[1:].tolist(), strict=True)
    ]


def _numbers(names: Names, shared: Names) -> npt.NDArray[np.uint8]:
    """(256,) class id -> number among the shared classes, from 1; else 0."""
    numbers = np.zeros(256, np.uint8)
    for class_id, name in enumerate(names):
        if class_id and name in shared:
            numbers[class_id] = 1 + shared.index(name)
    return numbers


def together(some: Sequence[ClassDice], more: Sequence[ClassDice]) -> tuple[ClassDice, ...]:
    """The pixels of both taken as those of one image; of the same classes, or `some` is empty."""
    if not some:
        return tuple(more)
    return tuple(
        ClassDice(a.class_name, a.before + b.before, a.after + b.after, a.common + b.common)
        for a, b in zip(some, more, strict=True)
    )


def mean_dice(rows: Sequence[ClassDice]) -> float | None:
    """The mean over the classes that are in either; None where none is."""
    used = [row.dice for row in rows if row.dice is not None]
    return sum(used) / len(used) if used else None


def class_lines(rows: Sequence[ClassDice]) -> list[str]:
    """For a terminal, free of markup: a line per class."""
    if not rows:
        return []
    lines = ["     Dice     px before      px after  class"]
    for row in rows:
        name = "".join(letter if letter.isprintable() else "?" for letter in row.class_name)
        lines.append(f"  {number(row.dice)} {row.before:13,} {row.after:13,}  {name}")
    lines.append(f"  {number(mean_dice(rows))}  mean of the classes")
    return lines


def number(dice: float | None) -> str:
    """In seven characters; a class that is in neither has none."""
    return f"{dice:7.4f}" if dice is not None else "      -"
