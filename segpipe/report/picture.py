"""An image of a store with its results drawn on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from segpipe.errors import SpecError
from segpipe.geometry import Box
from segpipe.records import Pixels
from segpipe.report.display import shown
from segpipe.report.drawn_objects import DrawnObjects
from segpipe.report.overlay import overlay
from segpipe.report.source import OVERVIEW, Source, open_source, overview_level
from segpipe.store.ome_zarr import centres
from segpipe.store.snapshot import Row, Snapshot, is_large

MOST_PIXELS = 1 << 26
"""Of a part that is drawn in full."""

Labels = npt.NDArray[np.unsignedinteger[Any]]


@dataclass(frozen=True, slots=True, eq=False)
class Figure:
    """A picture.

    Attributes:
        note: what is to be known about it: that it shows a part, or is an overview; or empty.
    """

    picture: Image.Image
    note: str


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """What is to be drawn of one result.

    Attributes:
        pixels: (h, w, C).
        labels: (h, w).
        semantic: (h, w) class per pixel, or None.
        objects: in the frame of the view.
        side: pixels of the image along each side of one of the view.
    """

    pixels: Pixels
    labels: Labels
    semantic: Labels | None
    objects: DrawnObjects
    side: int


def draw_image(snapshot: Snapshot, name: str, region: Box | None = None) -> Figure:
    """The classic figure of one image: masks, boxes, class names, scores.

    Args:
        snapshot: where the results are; the newest one is drawn.
        name: image_id, path in the collection, uri, or file name.
        region: as `draw_row`.

    Raises:
        SpecError: there is no such image or region, or it has no result.
        InputError: the image is gone, or is not the one that was segmented.
    """
    row = snapshot.find_image(name)
    if row["status"] != "ok":  # that is told before the image is read
        raise SpecError(f"{row['path']}: has no masks: {row['reason']}: {row['detail']}")
    with open_source(row) as source:
        return draw_row(snapshot, row, source, region)


def draw_row(snapshot: Snapshot, row: Row, source: Source, region: Box | None = None) -> Figure:
    """The same of one result.

    Args:
        row: of `images`, `ok`.
        source: the image that it was made from.
        region: of the image, not smaller than a pixel, drawn in full; None for all of it, which is
            an overview of a large image.

    Raises:
        SpecError: the region reaches beyond the image, or has more than `MOST_PIXELS`.
        InputError: the image is damaged.
    """
    if region is None:
        view = overview(snapshot, row, source, OVERVIEW)
        note = overview_note(source.shape, view.side) if view.side > 1 else ""
    else:
        view, note = _part(snapshot, row, source, region), _part_note(source, region)
    notes = (note,) if note else ()
    line = 1 if view.side > 1 else None  # objects are small there: thick lines hide them
    shown_as = view.pixels, view.labels, view.objects, view.semantic
    drawn = overlay(*shown_as, notes=notes, line=line)
    return Figure(Image.fromarray(drawn), note)


def overview(snapshot: Snapshot, row: Row, source: Source, side: int) -> View:
    """All of an image; of a large one so small that its longer side is `side` pixels at most."""
    level = overview_level(source.shape, side) if is_large(row) else 0
    part = Box(0, 0, *source.level_shape(level))
    return View(
        source.read(part, level),
        snapshot.label_image(row, part, level),
        snapshot.semantic(row, part, level),
        DrawnObjects.of(snapshot.object_table(row)).seen(part, level),
        2**level,
    )


def _part(snapshot: Snapshot, row: Row, source: Source, region: Box) -> View:
    height, width = source.shape
    if region.empty or not source.whole.contains(region):
        raise SpecError(
            f"{row['path']}: region {text_of(region)} is not inside of its {height:,} x {width:,}"
            " pixels; give Y0,X0,Y1,X1, where Y1 and X1 are the row and the column after the last"
        )
    if region.area > MOST_PIXELS:
        raise SpecError(
            f"{row['path']}: region {text_of(region)} has {region.area:,} pixels; up to"
            f" {MOST_PIXELS:,} are drawn: give a smaller one"
        )
    labels = snapshot.label_image(row, region)
    objects = DrawnObjects.of(snapshot.object_table(row, region))
    return View(
        shown(source.read(region), source.contrast),
        labels,
        snapshot.semantic(row, region),
        objects.among(np.unique(labels)).seen(region),
        1,
    )


def text_of(region: Box) -> str:
    """As `--region` takes it."""
    return f"{region.y0},{region.x0},{region.y1},{region.x1}"


def labels_of_level(snapshot: Snapshot, row: Row, level: int) -> Labels:
    """(h, w) of a level; made where the result has no levels."""
    if is_large(row) or not level:
        return snapshot.label_image(row, level=level)
    labels = snapshot.label_image(row)
    return labels[np.ix_(*(centres(size, 2**level) for size in labels.shape))]


def overview_note(shape: tuple[int, int], side: int) -> str:
    """Of an image of `shape`, where a pixel stands for `side` x `side` of them."""
    height, width = shape
    return f"overview, 1/{side} of {height:,} x {width:,} px"


def _part_note(source: Source, region: Box) -> str:
    height, width = source.shape
    return f"region {text_of(region)} of {height:,} x {width:,} px"
