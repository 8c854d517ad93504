"""A part in which a network found as many objects as it may give is looked at again, in quarters.

A detector gives its best `max_detections` and is silent about the rest. In a quarter there are
fewer to be found. Quarters overlap by the halo and are merged as tiles are (`masks.seams`), and one
that is as full again is quartered too, until it is not, or is too small to be cut: what is missing
then is told by `Instances.saturated`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from segpipe.geometry import Box
from segpipe.masks.paint import unpaint
from segpipe.masks.seams import merge_tiles
from segpipe.masks.seams.reach import reach_edges
from segpipe.planning.tiles import NETWORK_STRIDE, Tiling, plan_tiles
from segpipe.records import CroppedMask, DecodedImage, Instances
from segpipe.segmenters.base import PartSegmenter, View
from segpipe.spec import DetectorOptions

EDGE = 2
"""Pixels that a detector's mask may end before the edge that cuts it. Measured with
`mask-rcnn-nuclei` at magnifications 0.5, 1 and 2, on 638 nuclei that an edge cuts: half end at the
edge, and of those up to 48 pixels 90 % within 2 at magnifications 0.5 and 1. With 3, nuclei that
are larger than the halo were refused more often (7 of 48 images; 1 of 48 with 0), and the others
were put together no better."""


def objects_of_part(
    segmenter: PartSegmenter[Any, Any],
    raw: Any,
    part: DecodedImage,
    seen: Box,
    shape: tuple[int, int],
    view: View,
    halo: int,
) -> Instances:
    """What there is in a part, in image coordinates; a closer look included, if need be.

    Args:
        raw: what the segmenter answered on `part`.
        segmenter, part, seen, shape, view, halo: as of `in_quarters`.

    Raises:
        DeviceMemoryError, BudgetError: as `in_quarters`.
    """
    found = objects_at_first(segmenter, raw, part, seen, shape)
    return in_quarters(segmenter, found, part, seen, shape, view, halo)


def in_quarters(
    segmenter: PartSegmenter[Any, Any],
    found: Instances,
    part: DecodedImage,
    seen: Box,
    shape: tuple[int, int],
    view: View,
    halo: int,
) -> Instances:
    """The same where a first look has been taken; one more `forward` for each quarter.

    Where an object was not seen whole by any quarter, and the pieces do not fit, the first look
    counts; it is saturated.

    Args:
        segmenter: whose objects are instances.
        found: at first, in image coordinates.
        part: the pixels of `seen`.
        seen: where the part lies in the image.
        shape: (height, width) of the image.
        view: in which the part is looked at.
        halo: by which quarters overlap, pixels; more than the longest side of an object.

    Raises:
        DeviceMemoryError, BudgetError: as `forward` and `merge_tiles`.
    """
    tiling = _quarters(part.header.shape, halo) if found.saturated else None
    if tiling is None:
        return found
    answers = []
    for tile in tiling:
        quarter = _cut(part, tile.grown)
        (raw,) = segmenter.forward([segmenter.prepare_part(quarter, view)])
        box = tile.grown.shift(seen.y0, seen.x0)
        objects = objects_of_part(segmenter, raw, quarter, box, shape, view, halo)
        answers.append((tile, _moved(objects, -seen.y0, -seen.x0)))
    together, merged = merge_tiles(tiling, answers)
    return found if merged.incomplete.any() else _moved(together, seen.y0, seen.x0)


def _cut(image: DecodedImage, box: Box) -> DecodedImage:
    """The pixels of a box, as an image of its own."""
    return replace(image, pixels=image.pixels[box.slices], header=image.header.of_part(box))


def objects_at_first(
    segmenter: PartSegmenter[Any, Any],
    raw: Any,
    part: DecodedImage,
    seen: Box,
    shape: tuple[int, int],
) -> Instances:
    """The same without a second look, whatever there may be besides."""
    found = unpaint(segmenter.finish(raw, part), seen.y0, seen.x0)
    if isinstance(segmenter.spec.options, DetectorOptions):
        return reach_edges(found, seen, shape, EDGE)
    return found


def _quarters(shape: tuple[int, int], halo: int) -> Tiling | None:
    """Four parts, or two where one side is short; None where they would be too small."""
    longest = max(shape)
    if longest <= 3 * halo:
        return None
    tiling = plan_tiles(
        shape, -(-longest // (2 * NETWORK_STRIDE)) * NETWORK_STRIDE, halo, NETWORK_STRIDE
    )
    largest = max(max(tile.grown.height, tile.grown.width) for tile in tiling)
    return tiling if largest < longest else None


def _moved(objects: Instances, y: int, x: int) -> Instances:
    masks = (CroppedMask(mask.y0 + y, mask.x0 + x, mask.mask) for mask in objects.masks)
    return replace(objects, masks=tuple(masks))
