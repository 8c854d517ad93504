"""Where images lie, files and objects alike: described, opened, and looked at again."""

from __future__ import annotations

import io
import os
import stat
import threading
from typing import TYPE_CHECKING, BinaryIO, cast

from segpipe.errors import InputError
from segpipe.readers.files import open_file
from segpipe.readers.names import is_object_uri, object_uri, split_object_uri, split_uri
from segpipe.readers.zarr_folder import folder_ref, local_ref
from segpipe.records import ImageRef

if TYPE_CHECKING:
    from segpipe.buckets.bucket import Bucket, Found
    from segpipe.buckets.client import Patience


class Places:
    """Opens by URI; connections to buckets are kept. Safe to use from several threads.

    The URIs here are without the member of an archive. Where a bucket, or the storage as a whole,
    is the trouble and not one object, every method raises `StoreError` or `TransientStoreError`.
    """

    def __init__(self, patience: Patience | None = None) -> None:
        self._patience = patience
        self._buckets: dict[str, Bucket] = {}
        self._lock = threading.Lock()

    def bucket(self, address: str) -> Bucket:
        """
        Raises:
            SpecError: what the environment says of the storage makes no sense.
        """
        from segpipe.buckets.bucket import Bucket

        with self._lock:
            if address not in self._buckets:
                self._buckets[address] = Bucket(address, self._patience)
            return self._buckets[address]

    def ref(self, uri: str, shown: str) -> ImageRef:
        """What is at `uri`, as a member of a collection, refused where it cannot be read."""
        if not is_object_uri(uri):
            return local_ref(split_uri(uri)[0], shown, uri)
        bucket, key = split_object_uri(uri)
        try:
            return object_ref(bucket, self.bucket(bucket).head(key), shown)
        except InputError as error:
            return ImageRef(uri, shown, 0, 0, error.reason, error.detail)

    def open(
        self, uri: str, size: int | None = None, etag: str | None = None
    ) -> tuple[BinaryIO, int]:
        """A seekable stream and its size in bytes.

        Args:
            size: of an object, as listed; None to ask for it.
            etag: of an object; other bytes than those of this version are refused.

        Raises:
            InputError: it cannot be read.
        """
        if not is_object_uri(uri):
            file, found = open_file(split_uri(uri)[0])
            return file, found.st_size
        from segpipe.buckets.file import ObjectFile

        address, key = split_object_uri(uri)
        bucket = self.bucket(address)
        if size is None:
            now = bucket.head(key)
            size, etag = now.size, etag or now.etag
        raw = ObjectFile(bucket, key, size, etag)
        return cast(BinaryIO, io.BufferedReader(raw)), size

    def unchanged(self, ref: ImageRef, uri: str) -> bool:
        """Whether what is at `uri` is as listed; a size is that of `ref`, not of an archive."""
        if not is_object_uri(uri):
            return _same_file(ref, uri)
        found = self.ref(uri, "")
        if found.refused is not None:
            return False
        if ref.etag is not None:
            return found.etag == ref.etag
        return found.mtime_ns == ref.mtime_ns and (
            uri != ref.uri or found.size_bytes == ref.size_bytes
        )


def object_ref(bucket: str, found: Found, shown: str) -> ImageRef:
    """An object as a member of a collection."""
    uri = object_uri(bucket, found.key)
    return ImageRef(uri, shown, found.size, found.mtime_ns, etag=found.etag)


def _same_file(ref: ImageRef, uri: str) -> bool:
    try:
        path = split_uri(uri)[0]
        found = os.stat(path)  # noqa: PTH116 - keeps any bytes
    except (OSError, ValueError):
        return False
    if stat.S_ISDIR(found.st_mode):
        return folder_ref(path, "", uri).version == ref.version
    return found.st_mtime_ns == ref.mtime_ns and (uri != ref.uri or found.st_size == ref.size_bytes)
