"""An image with what two results say differently of it.

What was lost is outlined in orange, dashed; what was gained in blue, solid and bold; what changed
in yellow, before dotted and after solid. What is the same has a thin grey outline. The colours are
those of Okabe and Ito (Color Universal Design, 2008), and the lines tell it without them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from skimage.segmentation import find_boundaries

from segpipe.errors import InvariantError
from segpipe.geometry import Box
from segpipe.report.caption import Entry, add_caption, printable
from segpipe.report.diff.runs import ImagePair
from segpipe.report.display import PALETTE, Picture, display
from segpipe.report.overlay import thicken
from segpipe.report.picture import labels_of_level, overview_note
from segpipe.report.source import OVERVIEW, open_source, overview_level
from segpipe.store.snapshot import Snapshot, is_large

SIDE = 1024
"""Longer side that small images are enlarged to, about."""

LOST, GAINED, CHANGED = PALETTE[5], PALETTE[1], PALETTE[3]
_SAME = np.array((150, 150, 150), np.uint8)

Labels = npt.NDArray[np.integer[Any]]
Mask = npt.NDArray[np.bool_]


def draw_diff(snapshot: Snapshot, pair: ImagePair, names: tuple[str, str]) -> Image.Image:
    """The figure of an image that was compared.

    Args:
        names: of the two results, for the caption.

    Raises:
        InputError: the image is gone, or is not the one that was segmented.
    """
    before, after, diff = pair.before, pair.after, pair.diff
    if before is None or after is None or diff is None:
        raise InvariantError(f"{pair.about['path']} was not compared: {pair.problem}")
    with open_source(after) as source:
        level = overview_level(source.shape, OVERVIEW) if is_large(after) else 0
        picture = display(source.read(Box(0, 0, *source.level_shape(level)), level))
    factor = max(1, SIDE // max(picture.shape[:2]))
    old, new = (labels_of_level(snapshot, row, level) for row in (before, after))
    picture, old, new = (
        image.repeat(factor, axis=0).repeat(factor, axis=1) for image in (picture, old, new)
    )
    changed_old = [label for label, other, _ in diff.pairs if other in set(diff.changed)]
    same = [other for _, other, _ in diff.pairs if other not in set(diff.changed)]
    layers = (
        (_outline(new, same, 1), _SAME),
        (_outline(old, changed_old, 2) & _dots(picture, 4), CHANGED),
        (_outline(new, diff.changed, 2), CHANGED),
        (_outline(old, diff.lost, 3) & _dots(picture, 12), LOST),
        (_outline(new, diff.gained, 3), GAINED),
    )
    for mask, colour in layers:
        picture[mask] = colour
    legend = _legend(pair, names)
    if level:
        legend.append(Entry(overview_note(source.shape, 2**level)))
    return Image.fromarray(add_caption(picture, legend))


def _outline(labels: Labels, chosen: Iterable[int], line: int) -> Mask:
    """Pixels along the inner border of the chosen objects."""
    wanted = np.where(np.isin(labels, list(chosen)), labels, 0)
    return thicken(find_boundaries(wanted, mode="inner"), line)


def _dots(picture: Picture, length: int) -> Mask:
    """Stripes that cut an outline into dashes of about `length` pixels, whatever its direction."""
    y, x = np.indices(picture.shape[:2])
    dashes: Mask = (x + y) // length % 2 == (x - y) // length % 2
    return dashes


def _legend(pair: ImagePair, names: tuple[str, str]) -> list[Entry]:
    diff = pair.diff
    assert diff is not None
    same = len(diff.pairs) - len(diff.changed)

    def entry(count: int, what: str, colour: npt.NDArray[np.uint8]) -> Entry:
        red, green, blue = colour.tolist()
        return Entry(f"{count:,} {what}", (red, green, blue))

    return [
        Entry(f"{printable(pair.about['path'])}:"),
        Entry(f"{printable(names[0])} to {printable(names[1])}"),
        entry(len(diff.lost), "lost (dashed)", LOST),
        entry(len(diff.gained), "gained (bold)", GAINED),
        entry(len(diff.changed), "changed (dotted before)", CHANGED),
        entry(same, "same", _SAME),
    ]
