"""The masks of one large image: an OME-Zarr 0.5 label image with its pyramid, block by block.

Every file is a whole shard and is written once, as soon as the last pixel of it has come. Of the
smaller levels only the chunks that the blocks of the moment touch are in memory; so the memory is
that of a strip of the image, however high it is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr
from zarr.codecs import ZstdCodec
from zarr.core.buffer import Buffer
from zarr.storage import MemoryStore

from segpipe.errors import InvariantError
from segpipe.geometry import Box
from segpipe.planning.shapes import TILE, Tile, stack_layout
from segpipe.records import StoredFile
from segpipe.store.files import Files
from segpipe.store.masks import ArrayName, Mask
from segpipe.store.ome_zarr import VERSION, axes, centres, count_levels, multiscale
from segpipe.store.shards import ZSTD_LEVEL, compress, pack

BLOCK = 2 * TILE
"""Side of the blocks that a large image is written in, pixels; those at its end may be smaller."""


def blocks(shape: tuple[int, int]) -> Iterator[Box]:
    """The blocks of an image of `shape` (H, W), row by row."""
    return Box(0, 0, *shape).blocks(BLOCK, BLOCK)


class PyramidWriter:
    """Writes the masks of one image of one attempt: `label_image` and, where it has it, `semantic`.

    Each is a group of its own with arrays `0`, `1`, ... of half the height and width of the one
    before.

    Attributes:
        group: folder that holds them, relative to the store.
        georeference: of the image, plain JSON (docs/format.md); None where it has none.
    """

    def __init__(
        self,
        files: Files,
        group: str,
        shape: tuple[int, int],
        dtypes: Mapping[ArrayName, type[np.unsignedinteger[Any]]],
    ) -> None:
        """
        Args:
            files: the store.
            group: folder of the new Zarr group, relative to the store.
            shape: (height, width) of the image.
            dtypes: the masks to write and their types.
        """
        self._files = files
        self.group = group
        self.georeference: Mapping[str, Any] | None = None
        self._written: dict[str, StoredFile] = {}
        self._pyramids = {name: _Pyramid(shape, dtype) for name, dtype in dtypes.items()}

    def write(self, block: Box, masks: Mapping[ArrayName, Mask]) -> None:
        """Add one of `blocks`, each once, row by row; masks are (h, w)."""
        for name, pyramid in self._pyramids.items():
            for key, data in pyramid.write(block, masks[name]):
                self._write(f"{name}/{key}", data)

    def close(self) -> dict[str, StoredFile]:
        """Write what describes them.

        Raises:
            InvariantError: a block is missing.
        """
        for name, pyramid in self._pyramids.items():
            if pyramid.unfinished:
                raise InvariantError(f"{self.group}/{name}: not all blocks have come")
        for path, data in sorted(self._metadata().items()):
            self._write(path, data.to_bytes())
        return self._written

    def discard(self) -> None:
        """Remove what was written."""
        self._files.remove(self.group)

    @property
    def folders(self) -> set[str]:
        """Folders that hold the files written so far."""
        return {path.rpartition("/")[0] for path in self._written}

    def _metadata(self) -> dict[str, Buffer]:
        memory: dict[str, Buffer] = {}
        described = {"georeference": self.georeference} if self.georeference else {}
        root = zarr.create_group(MemoryStore(memory), zarr_format=3, attributes=described)
        for name, pyramid in self._pyramids.items():
            group = root.create_group(name)
            group.attrs["ome"] = {
                "version": VERSION,
                "multiscales": [multiscale(name, axes(), len(pyramid.levels))],
                "image-label": {"version": VERSION},
            }
            for number, level in enumerate(pyramid.levels):
                group.create_array(
                    str(number),
                    shape=level.layout.shape[1:],
                    dtype=level.dtype,
                    chunks=level.layout.chunk[1:],
                    shards=level.layout.shard[1:],
                    compressors=ZstdCodec(level=ZSTD_LEVEL),
                    fill_value=0,
                    dimension_names=("y", "x"),
                )
        return memory

    def _write(self, path: str, data: bytes) -> None:
        path = f"{self.group}/{path}"
        self._files.write(path, data)
        self._written[path] = StoredFile(len(data), hashlib.sha256(data).hexdigest())


class _Pyramid:
    def __init__(self, shape: tuple[int, int], dtype: type[np.unsignedinteger[Any]]) -> None:
        sides = (2**level for level in range(count_levels(shape)))
        self._centres = [tuple(centres(size, side) for size in shape) for side in sides]
        self.levels = [_Level((len(y), len(x)), np.dtype(dtype)) for y, x in self._centres]

    @property
    def unfinished(self) -> bool:
        return any(level.unfinished for level in self.levels)

    def write(self, block: Box, mask: Mask) -> Iterator[tuple[str, bytes]]:
        """The shards, by their key, that have become complete with this block."""
        for number, (level, (y, x)) in enumerate(zip(self.levels, self._centres, strict=True)):
            y0, y1 = np.searchsorted(y, (block.y0, block.y1)).tolist()
            x0, x1 = np.searchsorted(x, (block.x0, block.x1)).tolist()
            if y0 < y1 and x0 < x1:
                shown = mask[np.ix_(y[y0:y1] - block.y0, x[x0:x1] - block.x0)]
                for key, data in level.write(Box(y0, x0, y1, x1), shown if number else mask):
                    yield f"{number}/{key}", data


class _Level:
    """One array (H, W): chunks that are not whole yet, and the compressed ones of open shards."""

    def __init__(self, shape: tuple[int, int], dtype: np.dtype[Any]) -> None:
        self.dtype = dtype
        self.layout = stack_layout([shape], dtype.itemsize)
        self._shape = shape
        self._chunks: dict[tuple[int, int], npt.NDArray[Any]] = {}
        self._missing: dict[tuple[int, int], int] = {}
        self._shards: dict[tuple[int, int, int], list[bytes | None]] = {}
        self._chunks_missing: dict[tuple[int, int, int], int] = {}
        self._pixels_missing = shape[0] * shape[1]

    @property
    def unfinished(self) -> bool:
        return self._pixels_missing != 0

    def write(self, box: Box, mask: Mask) -> Iterator[tuple[str, bytes]]:
        self._pixels_missing -= box.area
        for tile in self.layout.tiles(0, self._shape, box):
            whole = self._fill(tile, box, mask)
            if whole is not None:
                yield from self._add(tile, compress(whole) if whole.any() else None)

    def _fill(self, tile: Tile, box: Box, mask: Mask) -> npt.NDArray[Any] | None:
        """A chunk, if this was the last that was missing of it."""
        place = tile.box.y0, tile.box.x0
        if place not in self._chunks:
            self._chunks[place] = np.zeros(self.layout.chunk[1:], self.dtype.newbyteorder("<"))
            self._missing[place] = tile.box.area
        common = tile.box.intersect(box)
        target = common.shift(-tile.box.y0, -tile.box.x0)
        self._chunks[place][target.slices] = mask[common.shift(-box.y0, -box.x0).slices]
        self._missing[place] -= common.area
        if self._missing[place]:
            return None
        del self._missing[place]
        return self._chunks.pop(place)

    def _add(self, tile: Tile, chunk: bytes | None) -> Iterator[tuple[str, bytes]]:
        """The shard of a chunk, if it was the last of it, and there is a label in one of them."""
        shard = tile.shard
        if shard not in self._shards:
            self._shards[shard] = [None] * self.layout.chunks_per_shard
            self._chunks_missing[shard] = self._chunks_of(shard)
        self._shards[shard][tile.place] = chunk
        self._chunks_missing[shard] -= 1
        if not self._chunks_missing[shard]:
            del self._chunks_missing[shard]
            chunks = self._shards.pop(shard)
            if any(chunks):
                yield "/".join(("c", *map(str, shard[1:]))), pack(chunks)

    def _chunks_of(self, shard: tuple[int, int, int]) -> int:
        """How many of its chunks have a pixel of the image."""
        _, height, width = self.layout.shard
        _, row, column = shard
        box = Box(row * height, column * width, (row + 1) * height, (column + 1) * width)
        tile_h, tile_w = self.layout.chunk[1:]
        inside = box.clip(self._shape)
        return -(-inside.height // tile_h) * -(-inside.width // tile_w)
