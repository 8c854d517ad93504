"""Label images in Zarr v3: one stack per chunk, compressed image by image, written shard by shard.

zarr-python makes the metadata; what it would do for the pixels is done in `shards`, at a fraction
of the cost, and each finished file goes through the store's own seam, once, with its sha256. So
there is one way to write, one to crash, and any place that can hold files can hold masks.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any, Literal, cast

import numpy as np
import numpy.typing as npt
import zarr
from zarr.codecs import ZstdCodec
from zarr.core.buffer import Buffer
from zarr.storage import MemoryStore

from segpipe.errors import SegpipeError, StoreError
from segpipe.geometry import Box
from segpipe.planning.shapes import StackLayout, stack_layout
from segpipe.records import StoredFile
from segpipe.store.files import Files
from segpipe.store.shards import ZSTD_LEVEL, Shard, compress, decompress, pack

ArrayName = Literal["label_image", "semantic"]

Mask = npt.NDArray[np.unsignedinteger[Any]]


class LabelOverflowError(SegpipeError):
    """More labels than the stack's type holds; the chunk must be written with a wider one."""


class MaskWriter:
    """Writes the masks of one attempt: `label_image` and, where the task has it, `semantic`.

    Images are appended in turn; a shard is written when it is full. Nothing is read back.
    """

    def __init__(
        self,
        files: Files,
        group: str,
        shapes: Iterable[tuple[int, int]],
        dtypes: Mapping[ArrayName, type[np.unsignedinteger[Any]]],
    ) -> None:
        """
        Args:
            files: the store.
            group: folder of the new Zarr group, relative to the store.
            shapes: (height, width) of every image that may be appended.
            dtypes: the arrays to write and their types.
        """
        sizes = list(shapes)
        self._files = files
        self._group = group
        self._written: dict[str, StoredFile] = {}
        self._folders: set[str] = {group}
        self._stacks = {name: _Stack(sizes, dtype) for name, dtype in dtypes.items()}

    def append(self, images: Mapping[ArrayName, Mask]) -> int:
        """Add the masks of one image, one (H, W) array per stack.

        Returns:
            The index of the image in the stacks.

        Raises:
            LabelOverflowError: a label does not fit the stack's type.
        """
        for name, stack in self._stacks.items():
            stack.append(images[name])
            if stack.full:
                self._write_shards(name)
        return stack.count - 1

    def close(self) -> dict[str, StoredFile]:
        """Write what is left; the stacks are as long as the number of images appended."""
        for name in self._stacks:
            self._write_shards(name)
        for path, data in sorted(self._metadata().items()):
            self._write(path, data.to_bytes())
        return self._written

    @property
    def folders(self) -> set[str]:
        """Folders that hold the files written so far."""
        return self._folders

    def _write_shards(self, name: ArrayName) -> None:
        for key, data in self._stacks[name].take_shards().items():
            self._write(f"{name}/{key}", data)

    def _metadata(self) -> dict[str, Buffer]:
        memory: dict[str, Buffer] = {}
        root = zarr.create_group(MemoryStore(memory), zarr_format=3)
        for name, stack in self._stacks.items():
            root.create_array(
                name,
                shape=(stack.count, *stack.layout.shape[1:]),
                dtype=stack.dtype,
                chunks=stack.layout.chunk,
                shards=stack.layout.shard,
                compressors=ZstdCodec(level=ZSTD_LEVEL),
                fill_value=0,
                dimension_names=("image", "y", "x"),
            )
        return memory

    def _write(self, path: str, data: bytes) -> None:
        path = f"{self._group}/{path}"
        self._files.write(path, data)
        self._written[path] = StoredFile(len(data), hashlib.sha256(data).hexdigest())
        self._folders.add(path.rpartition("/")[0])


class _Stack:
    """One array (N, H, W): how far it is, and the compressed images of the shards in the making."""

    def __init__(self, shapes: list[tuple[int, int]], dtype: type[np.unsignedinteger[Any]]) -> None:
        self.dtype = np.dtype(dtype)
        self.layout = stack_layout(shapes, self.dtype.itemsize)
        self.count = 0
        self._chunk = np.zeros(self.layout.chunk[1:], self.dtype.newbyteorder("<"))
        self._shards: dict[str, list[bytes | None]] = {}

    @property
    def full(self) -> bool:
        """Whether the shards in the making are complete."""
        return self.count % self.layout.shard[0] == 0

    def append(self, image: Mask) -> None:
        limit = int(np.iinfo(self.dtype).max)
        for tile in self.layout.tiles(self.count, image.shape):
            pixels = image[tile.box.slices]
            largest = int(pixels.max())
            if largest > limit:
                raise LabelOverflowError(f"label {largest} exceeds {limit}")
            if largest:
                empty: list[bytes | None] = [None] * self.layout.chunks_per_shard
                chunks = self._shards.setdefault(_key(tile.shard), empty)
                chunks[tile.place] = self._compress(pixels)
        self.count += 1

    def take_shards(self) -> dict[str, bytes]:
        """Key -> bytes of the shards in the making; those without a label are not there."""
        shards, self._shards = self._shards, {}
        return {key: pack(chunks) for key, chunks in sorted(shards.items())}

    def _compress(self, pixels: Mask) -> bytes:
        height, width = pixels.shape
        self._chunk[height:] = 0
        self._chunk[:height, width:] = 0
        self._chunk[:height, :width] = pixels
        return compress(self._chunk)


def _key(shard: tuple[int, ...]) -> str:
    return "/".join(("c", *map(str, shard)))


class MaskStack:
    """A stack of masks, or those of one large image; the file of the last shard is kept, as stored.

    Raises:
        StoreError: it is not an array that `MaskWriter` or `PyramidWriter` has written.
    """

    def __init__(self, files: Files, path: str) -> None:
        """`path` of the array is relative to the store, as in the column `mask_array`."""
        array = zarr.open_array(files.zarr(path), mode="r", zarr_format=3)
        if array.shards is None or array.ndim not in (2, 3):
            raise StoreError(f"{path}: is not a stack of masks; run `segpipe fsck`")
        self._one = array.ndim == 2
        ahead = (1,) if self._one else ()
        sizes = ((*ahead, *size) for size in (array.shape, array.chunks, array.shards))
        self._layout = StackLayout(*(cast("tuple[int, int, int]", size) for size in sizes))
        self._dtype = array.dtype
        self._files = files
        self._path = path
        self._last: tuple[str, Shard | None] = "", None

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width) of the planes, padding included."""
        return self._layout.shape[1:]

    def read(self, index: int | None, shape: tuple[int, int], part: Box | None = None) -> Mask:
        """One image's (H, W) plane, without the padding.

        Args:
            index: as in the column `mask_index`; None where the array is of one image.
            shape: (height, width) of the image.
            part: of the image, not empty; only that is read and returned.

        Raises:
            StoreError: the file is damaged.
        """
        box = part or Box(0, 0, *shape)
        mask = np.zeros((box.height, box.width), self._dtype)
        for tile in self._layout.tiles(index or 0, shape, box):
            key = _key(tile.shard[1:] if self._one else tile.shard)
            try:
                chunk = self._chunk(key, tile.place)
            except (OSError, ValueError) as error:
                raise StoreError(f"{self._path}/{key}: {error}; run `segpipe fsck`") from error
            if chunk is not None:
                inside = tile.box.intersect(box)
                here = inside.shift(-box.y0, -box.x0)
                mask[here.slices] = chunk[inside.shift(-tile.box.y0, -tile.box.x0).slices]
        return mask

    def _chunk(self, key: str, place: int) -> Mask | None:
        last, shard = self._last
        if key != last:
            shard = self._shard(key)
            self._last = key, shard
        frame = shard.chunk(place) if shard else None
        if frame is None:
            return None
        shape = self._layout.chunk[1:]
        size = shape[0] * shape[1] * self._dtype.itemsize
        data = np.frombuffer(decompress(frame, size), self._dtype.newbyteorder("<"))
        return data.reshape(shape)

    def _shard(self, key: str) -> Shard | None:
        """None where no file is stored, since there would be no label in it."""
        try:
            data = self._files.read(f"{self._path}/{key}")
        except FileNotFoundError:
            return None
        return Shard(data, self._layout.chunks_per_shard)
