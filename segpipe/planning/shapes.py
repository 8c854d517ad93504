"""The order in which a chunk's images are processed, and how a stack of masks is cut."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from segpipe.geometry import Box

TILE = 1024
"""Side of the largest inner chunk, pixels: what a reader fetches to see one place."""

SHARD_BYTES = 64 << 20
"""Raw bytes in a shard, at most; a writer holds them compressed."""

SHARD_IMAGES = 32


@dataclass(frozen=True, slots=True)
class Tile:
    """A part of one image that is an inner chunk of the stack.

    Attributes:
        shard: index of its shard along the three axes.
        place: of the chunk in the shard, in C order.
        box: in the image, which may end within the chunk.
    """

    shard: tuple[int, int, int]
    place: int
    box: Box


@dataclass(frozen=True, slots=True)
class StackLayout:
    """How an array (N, H, W) of label images is cut into shards (files) and inner chunks."""

    shape: tuple[int, int, int]
    chunk: tuple[int, int, int]
    shard: tuple[int, int, int]

    @property
    def chunks_per_shard(self) -> int:
        """Inner chunks in one shard."""
        return math.prod(s // c for s, c in zip(self.shard, self.chunk, strict=True))

    def tiles(self, index: int, shape: tuple[int, int], part: Box | None = None) -> Iterator[Tile]:
        """The inner chunks that hold the image at `index`, which has `shape` (H, W).

        Args:
            part: of the image, not empty; only the chunks that it meets.
        """
        _, tile_h, tile_w = self.chunk
        deep, down, across = self.shard[0], self.shard[1] // tile_h, self.shard[2] // tile_w
        box = part or Box(0, 0, *shape)
        for row in range(box.y0 // tile_h, -(-box.y1 // tile_h)):
            for column in range(box.x0 // tile_w, -(-box.x1 // tile_w)):
                y, x = row * tile_h, column * tile_w
                yield Tile(
                    shard=(index // deep, row // down, column // across),
                    place=(index % deep * down + row % down) * across + column % across,
                    box=Box(y, x, y + tile_h, x + tile_w).clip(shape),
                )


def stack_layout(shapes: Iterable[tuple[int, int]], itemsize: int) -> StackLayout:
    """The layout of a stack that is padded to the largest of `shapes`.

    Args:
        shapes: (height, width) of each image, at least one.
        itemsize: bytes per pixel.

    Returns:
        Inner chunks of one image, at most 1024 x 1024. A shard is the whole image plane times as
        many images as fit (at most 32 or 64 MB raw); where one padded plane is larger than that,
        a shard is a part of one plane, and shards without a label are not stored at all.
    """
    sizes = list(shapes)
    height, width = max(h for h, _ in sizes), max(w for _, w in sizes)
    tile_h, tile_w = min(height, TILE), min(width, TILE)
    tiles = SHARD_BYTES // (tile_h * tile_w * itemsize)
    across = min(-(-width // tile_w), tiles)
    down = min(-(-height // tile_h), max(1, tiles // across))
    whole_plane = across * tile_w >= width and down * tile_h >= height
    deep = min(SHARD_IMAGES, max(1, tiles // (across * down)), len(sizes)) if whole_plane else 1
    return StackLayout(
        shape=(len(sizes), height, width),
        chunk=(1, tile_h, tile_w),
        shard=(deep, down * tile_h, across * tile_w),
    )
