"""An image with its results drawn over it: the figure of Mask R-CNN (He et al., ICCV 2017).

Every object is a translucent colour with a solid outline, a box, its class name and its score.
Where objects are too many to be named, only masks and outlines are drawn, and the caption counts
them. A semantic result is shown as class colours with a legend.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from segpipe.errors import InvariantError
from segpipe.geometry import Box
from segpipe.records import Pixels
from segpipe.report.caption import Entry, add_caption, font_size, printable, text_font
from segpipe.report.display import Picture, class_colours, display, is_dark
from segpipe.report.drawn_objects import DrawnObjects, Row

MIN_SIDE = 768
"""Smaller images are enlarged until their shorter side has this many pixels..."""

MAX_ENLARGED_SIDE = 4096
"""...or their longer side this many."""

MAX_NAMED = 60
"""More objects than this are counted, not named."""

_OPACITY = 0.45
_DENSE_OPACITY = 0.3

_MAX_HIDDEN = 0.4
"""Share of a name's area that may lie over other objects."""

Labels = npt.NDArray[np.integer[Any]]


def overlay(
    pixels: Pixels,
    label_image: Labels,
    rows: Sequence[Row] | DrawnObjects,
    semantic: npt.NDArray[np.unsignedinteger[Any]] | None = None,
    class_names: Sequence[str] = (),
    notes: Sequence[str] = (),
    line: int | None = None,
) -> Picture:
    """Draw the results of one image.

    Args:
        pixels: (H, W, C), C is 1 or 3, any real type; 8-bit colour is shown as it is, all else
            between percentiles.
        label_image: (H, W), 0 is background.
        rows: of the `objects` table, one per label, for names, scores and boxes.
        semantic: (H, W) class per pixel; then these are drawn instead of the objects.
        class_names: by class id, for the legend, beside those in `rows`; a class without a name
            shows its id.
        notes: what the caption says besides.
        line: width of outlines of objects, pixels; None for one that suits the figure.

    Returns:
        (H', W', 3) uint8, W' a multiple of W: small images are enlarged by a whole factor, and
        a caption is added below.

    Raises:
        InvariantError: shapes differ.
    """
    shape = pixels.shape[0], pixels.shape[1]
    if label_image.shape != shape or (semantic is not None and semantic.shape != shape):
        raise InvariantError(f"masks {label_image.shape} do not fit pixels {pixels.shape}")
    objects = rows if isinstance(rows, DrawnObjects) else DrawnObjects.of(rows)
    factor = _enlargement(shape)
    picture = _enlarge(display(pixels), factor)
    more = [Entry(note) for note in notes]
    if semantic is not None:
        names = dict(enumerate(class_names)) | objects.class_names()
        return _draw_classes(picture, _enlarge(semantic, factor), names, more)
    dense = len(objects) > MAX_NAMED
    labels, colours = (
        _enlarge(label_image, factor),
        objects.colours(int(label_image.max(initial=0))),
    )
    opacity = _DENSE_OPACITY if dense else _OPACITY
    picture = _paint(picture, labels, colours, opacity, line or _line(picture))
    n_named = 0
    if not dense:
        picture, n_named = _draw_names(picture, labels, objects, colours, factor)
    return add_caption(picture, [*_summary(objects, n_named), *more])


def outlined(
    pixels: Pixels,
    label_image: Labels,
    rows: Sequence[Row] | DrawnObjects,
    semantic: npt.NDArray[np.unsignedinteger[Any]] | None,
    side: int,
) -> Picture:
    """The same small and without words: masks or classes, and their outlines.

    Args:
        side: the longer side is about this many pixels at most.

    Returns:
        (H', W', 3) uint8.
    """
    objects = rows if isinstance(rows, DrawnObjects) else DrawnObjects.of(rows)
    height, width = pixels.shape[:2]
    step = -(-max(height, width) // side)
    picture = Image.fromarray(display(pixels)).reduce(step)
    regions = label_image if semantic is None else semantic
    factor = max(1, side // max(picture.size))
    y, x = (np.minimum(np.arange(0, n, step) + step // 2, n - 1) for n in (height, width))
    small = _enlarge(regions[np.ix_(y, x)], factor)
    if semantic is None:
        colours = objects.colours(int(label_image.max(initial=0)))
    else:
        colours = class_colours(int(semantic.max(initial=0)) + 1)
    shown = _enlarge(np.array(picture), factor)
    return _paint(shown, small, colours, _DENSE_OPACITY, 1 if len(objects) > MAX_NAMED else 2)


def _enlargement(shape: tuple[int, int]) -> int:
    shorter, longer = min(shape), max(shape)
    enough = (MIN_SIDE + shorter - 1) // shorter
    return max(1, min(enough, MAX_ENLARGED_SIDE // longer))


def _enlarge(image: npt.NDArray[Any], factor: int) -> npt.NDArray[Any]:
    return image.repeat(factor, axis=0).repeat(factor, axis=1)


def _line(picture: Picture) -> int:
    """Width of an outline, in pixels of the figure."""
    height, width = picture.shape[:2]
    return max(2, int(min(height, width)) // 300)


def _paint(
    picture: Picture,
    labels: Labels,
    colours: npt.NDArray[np.uint8],
    opacity: float,
    line: int,
) -> Picture:
    """Blend the colour of every label over the picture and outline it, inside its region."""
    edge = thicken(edges(labels), line)
    edge &= labels > 0
    inside = (labels > 0) & ~edge
    painted = picture.copy()
    blend = (1 - opacity) * picture[inside] + opacity * colours[labels[inside]]
    painted[inside] = np.rint(blend).astype(np.uint8)
    painted[edge] = colours[labels[edge]]
    return painted


def edges(labels: Labels) -> npt.NDArray[np.bool_]:
    """Pixels with another label beside them; the image's own border is none."""
    edge = np.zeros(labels.shape, bool)
    rows, columns = labels[1:] != labels[:-1], labels[:, 1:] != labels[:, :-1]
    edge[1:] |= rows
    edge[:-1] |= rows
    edge[:, 1:] |= columns
    edge[:, :-1] |= columns
    return edge


def thicken(edge: npt.NDArray[np.bool_], line: int) -> npt.NDArray[np.bool_]:
    """A line of one pixel, or two, as one that grew to all four sides `line - 1` times."""
    for _ in range(line - 1):
        thick = edge.copy()
        thick[1:] |= edge[:-1]
        thick[:-1] |= edge[1:]
        thick[:, 1:] |= edge[:, :-1]
        thick[:, :-1] |= edge[:, 1:]
        edge = thick
    return edge


def _draw_names(
    picture: Picture,
    labels: Labels,
    objects: DrawnObjects,
    colours: npt.NDArray[np.uint8],
    factor: int,
) -> tuple[Picture, int]:
    """Boxes, then names with scores where there is room; the best score goes first.

    Returns:
        The picture and how many names are in it.
    """
    image = Image.fromarray(picture)
    draw = ImageDraw.Draw(image)
    line = max(1, _line(picture) // 2)
    font = text_font(font_size(picture.shape[:2]))
    boxes = [_enlarged(objects.box(index), factor) for index in range(len(objects))]
    ranked = np.argsort(-np.nan_to_num(objects.scores), kind="stable").tolist()
    for index in reversed(ranked):
        colour = _rgb(colours[objects.labels[index]])
        draw.rectangle(_corners(boxes[index]), outline=colour, width=line)
    taken: list[Box] = []
    for index in ranked:
        label, value = int(objects.labels[index]), objects.scores[index]
        text = printable(objects.name(index)) + ("" if np.isnan(value) else f" {value:.2f}")
        left, top, right, bottom = font.getbbox(text, anchor="ls")
        size = int(bottom - top) + 4, int(right - left) + 6
        place = _free_place(label, boxes[index], size, taken, labels)
        if place is None:
            continue
        taken.append(place)
        colour = _rgb(colours[label])
        draw.rectangle(_corners(place), fill=colour)
        ink = (255, 255, 255) if is_dark(colour) else (0, 0, 0)
        draw.text((place.x0 + 3 - left, place.y0 + 2 - top), text, ink, font, anchor="ls")
    return np.array(image), len(taken)


def _enlarged(box: Box, factor: int) -> Box:
    return Box(*(end * factor for end in (box.y0, box.x0, box.y1, box.x1)))


def _corners(box: Box) -> tuple[int, int, int, int]:
    return box.x0, box.y0, box.x1 - 1, box.y1 - 1


def _rgb(colour: npt.NDArray[np.uint8]) -> tuple[int, int, int]:
    red, green, blue = colour.tolist()
    return red, green, blue


def _free_place(
    label: int, box: Box, size: tuple[int, int], taken: Sequence[Box], labels: Labels
) -> Box | None:
    """Where a name of `size` hides no other name and little of the other objects.

    Tried are the places above the box, inside its top where the box is much larger, below it, and
    inside its bottom; each flush with the left side of the box, then with the right.
    """
    height, width = size
    roomy = box.height >= 3 * height and box.width >= width
    tops = (box.y0 - height, box.y0, box.y1, box.y1 - height)
    for y, x in itertools.product(tops if roomy else tops[::2], (box.x0, box.x1 - width)):
        x0 = max(0, min(x, labels.shape[1] - width))
        place = Box(y, x0, y + height, x0 + width)
        if y < 0 or place.y1 > labels.shape[0]:
            continue
        under = labels[place.slices]
        hidden = np.count_nonzero((under > 0) & (under != label))
        free = all(place.intersect(other).empty for other in taken)
        if free and hidden <= _MAX_HIDDEN * place.area:
            return place
    return None


def _summary(objects: DrawnObjects, n_named: int) -> list[Entry]:
    """The caption: how many objects, of which classes, and how many bear no name."""
    entries = [Entry(f"{len(objects):,} object{'' if len(objects) == 1 else 's'}")]
    names = Counter[str]()
    for name, count in objects.counts().items():
        names[printable(name)] += count
    if len(names) == 1 and "object" not in names:
        entries = [Entry(f"{entries[0].text}: {names.most_common()[0][0]}")]
    elif len(names) > 1:
        entries += [Entry(f"{count:,} {name}") for name, count in names.most_common()]
    if 0 < n_named < len(objects):
        entries.append(Entry(f"{len(objects) - n_named} without room for a name"))
    scores = objects.scores[~np.isnan(objects.scores)]
    if len(scores):
        entries.append(Entry(f"median score {np.median(scores):.2f}"))
    return entries


def _draw_classes(
    picture: Picture,
    semantic: npt.NDArray[np.unsignedinteger[Any]],
    names: Mapping[int, str],
    more: Sequence[Entry],
) -> Picture:
    found, counts = np.unique(semantic, return_counts=True)
    colours = class_colours(int(found[-1]) + 1)
    picture = _paint(picture, semantic, colours, _OPACITY, _line(picture))
    legend = [
        Entry(
            f"{printable(names.get(i, f'class {i}'))} {count / semantic.size:.1%}",
            tuple(colours[i].tolist()),
        )
        for i, count in zip(found.tolist(), counts.tolist(), strict=True)
        if i > 0
    ]
    return add_caption(picture, [*(legend or [Entry("background only")]), *more])
