"""What a comparison of two runs comes to."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any

from segpipe.report.diff.classes import ClassDice, class_lines, mean_dice, number, together
from segpipe.report.diff.runs import ImagePair

MOST = 10
"""Images that are named, those with the most differences."""


@dataclass(slots=True)
class ObjectCounts:
    """Objects of the images that are in both; `before` is same + changed + lost."""

    before: int = 0
    after: int = 0
    same: int = 0
    changed: int = 0
    lost: int = 0
    gained: int = 0

    @property
    def differences(self) -> int:
        return self.changed + self.lost + self.gained

    def add(self, pair: ImagePair) -> None:
        """Count an image that was compared."""
        diff = pair.diff
        assert diff is not None
        self.before += len(diff.pairs) + len(diff.lost)
        self.after += len(diff.pairs) + len(diff.gained)
        self.same += len(diff.pairs) - len(diff.changed)
        self.changed += len(diff.changed)
        self.lost += len(diff.lost)
        self.gained += len(diff.gained)


@dataclass(slots=True)
class Totals:
    """Counted while images go by.

    Attributes:
        before, after: the names of the two.
        images: that are in both and were compared.
        unlike: of these, how many have a difference, in an object or in the class of a pixel.
        problems: why others were not compared, and how many of them.
        classes: of a class per pixel, the pixels of all images taken together.
        kept: images to remember, those with the most differences.
    """

    before: str
    after: str
    images: int = 0
    unlike: int = 0
    problems: Counter[str] = field(default_factory=Counter)
    objects: ObjectCounts = field(default_factory=ObjectCounts)
    classes: tuple[ClassDice, ...] = ()
    kept: int = MOST
    _most: list[ImagePair] = field(default_factory=list)

    def add(self, pair: ImagePair) -> None:
        if pair.diff is None:
            self.problems[pair.problem] += 1
            return
        self.images += 1
        self.objects.add(pair)
        if pair.classes:
            self.classes = together(self.classes, pair.classes)
        if not pair.differences and all(one.dice in (None, 1) for one in pair.classes):
            return
        self.unlike += 1
        ranked = sorted([*self._most, pair], key=lambda one: one.rank)
        self._most = ranked[: self.kept]

    @property
    def share(self) -> float:
        """Differences per object that there was before or is there after, 0 to 1."""
        union = self.objects.same + self.objects.differences
        return self.objects.differences / union if union else 0.0

    @property
    def most(self) -> list[ImagePair]:
        """The images with the most differences, these first."""
        return list(self._most)

    @property
    def _one_sided(self) -> str:
        found = self.objects
        return f"{found.lost:,} lost, {found.gained:,} gained: {self.share:.2%} differ"

    def to_dict(self) -> dict[str, Any]:
        return {
            "before": self.before,
            "after": self.after,
            "images": self.images,
            "unlike": self.unlike,
            "not_compared": dict(sorted(self.problems.items())),
            "objects": asdict(self.objects),
            "share": self.share,
            "classes": [one.to_dict() for one in self.classes],
            "dice": mean_dice(self.classes),
            "most": [_line(pair) for pair in self.most],
        }

    def to_text(self) -> str:
        """For a terminal, free of markup."""
        found = self.objects
        lines = [
            f"{self.before} -> {self.after}",
            f"  {self.images:,} images in both, {self.unlike:,} of them with differences",
            *(f"  {count:,} not compared: {why}" for why, count in sorted(self.problems.items())),
            f"  {found.before:,} objects before, {found.after:,} after",
            f"  {found.same:,} same, {found.changed:,} changed, {self._one_sided}",
        ]
        lines += class_lines(self.classes)
        if self.most:
            dice = "    Dice" if self.classes else ""
            lines.append(f"  changed    lost  gained{dice}  image")
            lines += map(_row, self.most)
        return "\n".join(lines)


def _line(pair: ImagePair) -> dict[str, Any]:
    counts = ObjectCounts()
    counts.add(pair)
    about = pair.about
    told = {"image_id": about["image_id"], "path": about["path"], **asdict(counts)}
    return {**told, "dice": mean_dice(pair.classes)} if pair.classes else told


def _row(pair: ImagePair) -> str:
    one = _line(pair)
    counts = f"{one['changed']:7,} {one['lost']:7,} {one['gained']:7,}"
    dice = f" {number(one['dice'])}" if pair.classes else ""
    return f"  {counts}{dice}  {_legible(one['path'])}"


def _legible(path: str) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in path)
