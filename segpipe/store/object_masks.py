"""Masks of objects, read from where they lie: of a large image no more than what is around them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow.compute as pc

from segpipe.geometry import Box
from segpipe.masks.of_object import object_box, object_mask, own_mask
from segpipe.records import CroppedMask
from segpipe.store.pyramids import BLOCK
from segpipe.store.snapshot import Row, Snapshot, is_large

_AT_ONCE = 4096
"""Objects of a large image whose masks are read together: they share the parts that are read."""

_PIXELS = 1 << 26
"""In their boxes, of all but one of them."""


def find_object(snapshot: Snapshot, image: Row, label: int) -> Row | None:
    """The row of `objects` of one object of an image; None where there is no such object."""
    rows = snapshot.object_table(image).filter(pc.field("label") == label).to_pylist()
    return dict(rows[0]) if rows else None


def mask_of(snapshot: Snapshot, image: Row, one: Row) -> CroppedMask:
    """The pixels of an object, parts that others hide included, in its box.

    Args:
        image: `ok` row of `images`.
        one: row of `objects` of that image.
    """
    if one["rle"] is not None:
        return own_mask(one, (image["height"], image["width"]))
    box = object_box(one)
    return CroppedMask(box.y0, box.x0, snapshot.label_image(image, box) == one["label"])


def masks_of(
    snapshot: Snapshot, image: Row, rows: Iterable[Row]
) -> Iterator[tuple[Row, CroppedMask]]:
    """The same of some objects of an image, in their order; nothing is read for none."""
    if is_large(image):
        for some in _batches(rows):
            yield from zip(some, _masks_together(snapshot, image, some), strict=True)
        return
    labels = None
    for row in rows:
        labels = snapshot.label_image(image) if labels is None else labels
        yield row, object_mask(row, labels)


def _batches(rows: Iterable[Row]) -> Iterator[list[Row]]:
    some: list[Row] = []
    pixels = 0
    for row in rows:
        area = object_box(row).area
        if some and (len(some) == _AT_ONCE or pixels + area > _PIXELS):
            yield some
            some, pixels = [], 0
        some.append(row)
        pixels += area
    if some:
        yield some


def _masks_together(snapshot: Snapshot, image: Row, rows: list[Row]) -> list[CroppedMask]:
    """Objects whose boxes begin in one block share one region."""
    found: dict[int, CroppedMask] = {}
    groups: dict[tuple[int, ...], list[int]] = {}
    for index, row in enumerate(rows):
        box = object_box(row)
        if row["rle"] is not None or max(box.height, box.width) > BLOCK:
            found[index] = mask_of(snapshot, image, row)
        else:
            groups.setdefault((box.y0 // BLOCK, box.x0 // BLOCK), []).append(index)
    for members in groups.values():
        ends = np.array([_ends(object_box(rows[index])) for index in members])
        region = Box(*ends[:, :2].min(axis=0).tolist(), *ends[:, 2:].max(axis=0).tolist())
        labels = snapshot.label_image(image, region)
        for index in members:
            box = object_box(rows[index])
            own = labels[box.shift(-region.y0, -region.x0).slices] == rows[index]["label"]
            found[index] = CroppedMask(box.y0, box.x0, own)
    return [found[index] for index in range(len(rows))]


def _ends(box: Box) -> tuple[int, int, int, int]:
    return box.y0, box.x0, box.y1, box.x1
