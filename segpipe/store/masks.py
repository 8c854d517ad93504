"""Label images in Zarr v3: one stack per chunk, written a whole shard at a time.

Zarr encodes into memory; each finished file then goes through the store's own seam, once, with
its sha256. So there is one way to write, one to crash, and any place that can hold files can
hold masks.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import zarr
from zarr.codecs import ZstdCodec
from zarr.core.buffer import Buffer
from zarr.storage import MemoryStore

from segpipe.errors import SegpipeError
from segpipe.planning.shapes import stack_layout
from segpipe.records import StoredFile
from segpipe.store.files import Files

ArrayName = Literal["label_image", "semantic"]


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
        self._files = files
        self._group = group
        self._memory: dict[str, Buffer] = {}
        self._written: dict[str, StoredFile] = {}
        self._folders: set[str] = {group}
        self._count = 0
        root = zarr.create_group(MemoryStore(self._memory), zarr_format=3)
        self._stacks = {
            name: _Stack(root, name, list(shapes), dtype) for name, dtype in dtypes.items()
        }

    def append(self, images: Mapping[ArrayName, npt.NDArray[np.unsignedinteger[Any]]]) -> int:
        """Add the masks of one image, one (H, W) array per stack.

        Returns:
            The index of the image in the stacks.

        Raises:
            LabelOverflowError: a label does not fit the stack's type.
        """
        for name, stack in self._stacks.items():
            stack.append(images[name])
        self._drain()
        self._count += 1
        return self._count - 1

    def close(self) -> dict[str, StoredFile]:
        """Write what is left; the stacks are as long as the number of images appended."""
        for stack in self._stacks.values():
            stack.close()
        self._drain(metadata=True)
        return self._written

    @property
    def folders(self) -> set[str]:
        """Folders that hold the files written so far."""
        return self._folders

    def _drain(self, metadata: bool = False) -> None:
        for key in sorted(self._memory):
            if key.endswith("zarr.json") and not metadata:
                continue
            data = self._memory.pop(key).to_bytes()
            path = f"{self._group}/{key}"
            self._files.write(path, data)
            self._written[path] = StoredFile(len(data), hashlib.sha256(data).hexdigest())
            self._folders.add(path.rpartition("/")[0])


class _Stack:
    """One array (N, H, W) and the images that wait for their shard to be full."""

    def __init__(
        self,
        root: zarr.Group,
        name: str,
        shapes: list[tuple[int, int]],
        dtype: type[np.unsignedinteger[Any]],
    ) -> None:
        layout = stack_layout(shapes, np.dtype(dtype).itemsize)
        self._array: zarr.Array[Any] = root.create_array(
            name,
            shape=layout.shape,
            dtype=dtype,
            chunks=layout.chunk,
            shards=layout.shard,
            compressors=ZstdCodec(level=1),
            fill_value=0,
            dimension_names=("image", "y", "x"),
        )
        self._depth = layout.shard[0]
        self._limit = int(np.iinfo(dtype).max)
        self._waiting: list[npt.NDArray[np.unsignedinteger[Any]]] = []
        self._start = 0

    def append(self, image: npt.NDArray[np.unsignedinteger[Any]]) -> None:
        if image.size and int(image.max()) > self._limit:
            raise LabelOverflowError(f"label {int(image.max())} exceeds {self._limit}")
        self._waiting.append(image)
        if len(self._waiting) == self._depth:
            self._flush()

    def close(self) -> None:
        self._flush()
        self._array.resize((self._start, *self._array.shape[1:]))

    def _flush(self) -> None:
        if not self._waiting:
            return
        height = max(image.shape[0] for image in self._waiting)
        width = max(image.shape[1] for image in self._waiting)
        block = np.zeros((len(self._waiting), height, width), self._array.dtype)
        for index, image in enumerate(self._waiting):
            block[index, : image.shape[0], : image.shape[1]] = image
        stop = self._start + len(block)
        self._array[self._start : stop, :height, :width] = block
        self._start = stop
        self._waiting.clear()


def read_mask(
    files: Files, array: str, index: int, shape: tuple[int, int]
) -> npt.NDArray[np.unsignedinteger[Any]]:
    """One image's (H, W) plane of a stack, without the padding.

    Args:
        files: the store.
        array: path of the array, relative to the store, as in the column `mask_array`.
        index: as in the column `mask_index`.
        shape: (height, width) of the image.
    """
    stack = zarr.open_array(files.zarr(array), mode="r", zarr_format=3)
    return np.asarray(stack[index, : shape[0], : shape[1]])
