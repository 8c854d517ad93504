"""Arrow's and Zarr's readers over object storage."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NoReturn

import obstore
import pyarrow as pa
import pyarrow.fs as pafs
import zarr.storage

from segpipe.buckets.errors import translated

if TYPE_CHECKING:
    from obstore.store import ObjectStore
    from zarr.abc.store import ByteRequest
    from zarr.core.buffer import Buffer, BufferPrototype

WHOLE_BYTES = 8 << 20
"""Up to this size Arrow gets an object in one request; of a larger one, what it asks for."""


def arrow_files(objects: ObjectStore, address: str) -> pafs.FileSystem:
    """The objects of a store, to read only."""
    return pafs.PyFileSystem(_ArrowHandler(objects, address))


class ZarrObjects(zarr.storage.ObjectStore["ObjectStore"]):
    """The objects of a store, to read only."""

    def __init__(self, objects: ObjectStore, address: str) -> None:
        super().__init__(objects, read_only=True)
        self._address = address

    async def get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        with translated(f"{self._address}/{key}"):
            return await super().get(key, prototype, byte_range)


class _ArrowHandler(pafs.FileSystemHandler):  # type: ignore[misc] # pyarrow has no types
    """The few operations that reading Parquet takes."""

    def __init__(self, objects: ObjectStore, address: str) -> None:
        self._objects = objects
        self._address = address

    def get_type_name(self) -> str:
        return "objects"

    def normalize_path(self, path: str) -> str:
        return path

    def get_file_info(self, paths: Sequence[str]) -> list[pafs.FileInfo]:
        return [self._info(path) for path in paths]

    def open_input_file(self, path: str) -> pa.NativeFile:
        with translated(f"{self._address}/{path}"):
            found = obstore.get(self._objects, path)
            size = found.meta["size"]
            if size <= WHOLE_BYTES:
                return pa.BufferReader(pa.py_buffer(found.bytes()))
        file = _Ranges(self._objects, path, size, f"{self._address}/{path}")
        return pa.PythonFile(file, mode="r")

    def _info(self, path: str) -> pafs.FileInfo:
        try:
            with translated(f"{self._address}/{path}"):
                size = obstore.head(self._objects, path)["size"]
        except FileNotFoundError:
            return pafs.FileInfo(path, pafs.FileType.NotFound)
        return pafs.FileInfo(path, pafs.FileType.File, size=size)

    def _refuse(self, *_: Any) -> NoReturn:
        raise io.UnsupportedOperation("these files are read one by one, and not written")

    open_input_stream = get_file_info_selector = _refuse
    open_output_stream = open_append_stream = copy_file = move = create_dir = _refuse
    delete_file = delete_dir = delete_dir_contents = delete_root_dir_contents = _refuse


class _Ranges(io.RawIOBase):
    """An object as a file that fetches what is read."""

    def __init__(self, objects: ObjectStore, path: str, size: int, url: str) -> None:
        self._objects = objects
        self._path = path
        self._size = size
        self._url = url
        self._place = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._place

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._size}[whence]
        self._place = start + offset
        return self._place

    def read(self, size: int | None = -1) -> bytes:
        left = max(0, self._size - self._place)
        length = left if size is None or size < 0 else min(size, left)
        if not length:
            return b""
        with translated(self._url):
            data = obstore.get_range(self._objects, self._path, start=self._place, length=length)
        self._place += length
        return bytes(data)
