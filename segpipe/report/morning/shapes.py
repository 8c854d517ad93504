"""Objects as vector shapes over a picture: the figure of Mask R-CNN (He et al., ICCV 2017).

Shapes stay sharp at any size, and names are text: they can be read, searched and copied.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from segpipe.geometry import Box
from segpipe.masks.of_object import object_box
from segpipe.masks.outline import Ring, outline
from segpipe.records import CroppedMask
from segpipe.report.drawn_objects import DrawnObjects, Row

MAX_SHAPES = 60
"""More objects than this are painted into the picture instead, and not named one by one."""

Masks = Callable[[Sequence[Row]], Iterable[tuple[Row, CroppedMask]]]
"""The whole masks of some rows of `objects`, in their order."""

Bounds = tuple[float, float, float, float]
"""x0, y0, x1, y1 in pixels of the picture."""


@dataclass(frozen=True, slots=True)
class Shape:
    """One object.

    Attributes:
        path: the `d` of an SVG path, even-odd, in pixels of the picture.
        bounds: of its box.
        colour: `#rrggbb`.
        name, score, area: from its row; the area in pixels of the image.
    """

    label: int
    path: str
    bounds: Bounds
    colour: str
    name: str
    score: float | None
    area: int


def shapes(rows: Sequence[Row], masks: Masks, step: int) -> tuple[Shape, ...]:
    """The objects of an image, large ones first, so that small ones lie over them.

    Args:
        rows: of `objects`.
        masks: gives the masks of some of them.
        step: pixels of the image along each side of a pixel of the picture.
    """
    colours = DrawnObjects.of(rows).colours()
    ordered = sorted(rows, key=lambda row: (-row["area"], row["label"]))
    return tuple(
        _shape(row, mask, hex_colour(colours[row["label"]]), step) for row, mask in masks(ordered)
    )


def _shape(row: Row, mask: CroppedMask, colour: str, step: int) -> Shape:
    box = object_box(row)
    y0, x0, y1, x1 = (end / step for end in (box.y0, box.x0, box.y1, box.x1))
    small = _sampled(mask, step)
    rings = [ring for part in outline(small) for ring in (part.shell, *part.holes)]
    if not rings:  # nothing of it is left at this size
        rings = [np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)])]
    return Shape(
        row["label"], "".join(map(_path, rings)), (x0, y0, x1, y1), colour,
        row["class_name"] or "", row["score"], row["area"],
    )  # fmt: skip


def _sampled(mask: CroppedMask, step: int) -> CroppedMask:
    """Every `step`-th pixel, as a reduced picture has it."""
    if step == 1:
        return mask
    places = []
    for start, length in zip((mask.y0, mask.x0), mask.mask.shape, strict=True):
        first = -(-(start - step // 2) // step)
        last = (start + length - 1 - step // 2) // step
        places.append(
            (max(0, first), np.arange(max(0, first), last + 1) * step + step // 2 - start)
        )
    (y0, y), (x0, x) = places
    return CroppedMask(y0, x0, mask.mask[np.ix_(y, x)])


def _path(ring: Ring | npt.NDArray[np.floating[Any]]) -> str:
    """Steps along the rows and columns, the shortest way to write them."""
    if ring.dtype.kind == "f":
        return "M" + "L".join(f"{x:.2f} {y:.2f}" for x, y in ring.tolist()) + "z"
    points = ring.tolist()
    parts = [f"M{points[0][0]} {points[0][1]}"]
    for (x, y), (to_x, to_y) in itertools.pairwise(points):
        parts.append(f"h{to_x - x}" if to_y == y else f"v{to_y - y}")
    return "".join(parts) + "z"


def hex_colour(colour: npt.NDArray[np.uint8]) -> str:
    """(3,) as `#rrggbb`."""
    return "#" + "".join(f"{part:02x}" for part in colour.tolist())


@dataclass(frozen=True, slots=True)
class Tag:
    """A name in a figure.

    Attributes:
        x, y: of the corner of the box where it is, 0..1 of the figure.
        side: `above` or `below` that corner; `left` or `right`, where the text begins or ends.
        wide: there is room for it in a wide figure only.
    """

    shape: Shape
    text: str
    x: float
    y: float
    above: bool
    right: bool
    wide: bool


_WIDE, _NARROW = 680.0, 340.0
"""Widths of a figure, in pixels of the screen, between which names come and go; see page.css."""
_CHARACTER, _LINE = 6.6, 17.0


def tags(found: Iterable[Shape], width: float, height: float) -> list[Tag]:
    """Names with scores where there is room for them; the best score goes first.

    Args:
        width, height: of the picture that the bounds are in.
    """
    ranked = sorted(found, key=lambda shape: (-(shape.score or 0.0), shape.label))
    taken: dict[float, list[Box]] = {_WIDE: [], _NARROW: []}
    placed = []
    for shape in ranked:
        text = shape.name if shape.score is None else f"{shape.name} {shape.score:.2f}"
        for tag in _places(shape, text, width, height):
            if not _free(tag, _WIDE, height / width, taken):
                continue
            wide = not _free(tag, _NARROW, height / width, taken)
            for size in (_WIDE,) if wide else (_WIDE, _NARROW):
                taken[size].append(_room(tag, size, height / width))
            placed.append(Tag(shape, text, tag.x, tag.y, tag.above, tag.right, wide))
            break
    return placed


def _places(shape: Shape, text: str, width: float, height: float) -> Iterator[Tag]:
    x0, y0, x1, y1 = shape.bounds
    for y, above in ((y0, True), (y0, False), (y1, False), (y1, True)):
        for x, right in ((x0, False), (x1, True)):
            yield Tag(shape, text, x / width, y / height, above, right, False)


def _room(tag: Tag, size: float, ratio: float) -> Box:
    length = _CHARACTER * len(tag.text) + 8
    x = tag.x * size - (length if tag.right else 0)
    y = tag.y * size * ratio - (_LINE if tag.above else 0)
    return Box(round(y), round(x), round(y + _LINE), round(x + length))


def _free(tag: Tag, size: float, ratio: float, taken: dict[float, list[Box]]) -> bool:
    room = _room(tag, size, ratio)
    inside = Box(0, 0, round(size * ratio), round(size)).contains(room)
    return inside and all(room.intersect(other).empty for other in taken[size])
