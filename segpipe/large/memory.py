"""What a large image may take of a worker's memory; it does not depend on the image's size."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from segpipe.geometry import Box
from segpipe.planning.memory import Cost, image_cost
from segpipe.readers.regions import RegionLimits
from segpipe.records import Header
from segpipe.segmenters.base import Footprint, PartSegmenter
from segpipe.spec import Limits
from segpipe.store.pyramids import BLOCK

SHARE = 3
"""A region source may take one part in so many of a worker's room."""

MOST_UNDIVIDED = 4 << 30
"""Of an image whose format knows no parts, bytes."""

PROJECTED_BYTES = 64
"""For each pixel of a block: its masks, what they are made of, and the chunks that it is in."""


def region_limits(limits: Limits, max_pixels: int, room: int) -> RegionLimits:
    """What reading by region may take.

    Args:
        limits: of the spec.
        max_pixels: of the whole image.
        room: of the worker, bytes.
    """
    memory = min(MOST_UNDIVIDED, room // SHARE)
    return RegionLimits(
        max_pixels=max_pixels,
        memory_bytes=memory,
        kept_bytes=min(RegionLimits().kept_bytes, memory),
        decode_seconds=limits.decode_seconds,
    )


def large_cost(header: Header, segmenter: PartSegmenter[Any, Any], room: int) -> Cost:
    """Of the largest tile in each stage, or of a block where that is more.

    Args:
        room: of the worker, bytes.
    """
    tiles = segmenter.spec.tiles
    assert tiles is not None
    kept = region_limits(segmenter.spec.limits, 1, room).kept_bytes
    tile = header.of_part(Box(0, 0, tiles.side, tiles.side).clip(header.shape))
    looking = image_cost(tile, 0, segmenter.part_footprint(tile, 1.0))
    block = header.of_part(Box(0, 0, BLOCK, BLOCK).clip(header.shape))
    pixels = block.height * block.width
    projecting = image_cost(block, 0, Footprint(0, 0, 0, PROJECTED_BYTES * pixels))
    return replace(
        looking,
        load=looking.load + kept,
        answer=looking.answer + kept,
        record=max(looking.record, projecting.record) + kept,
    )
