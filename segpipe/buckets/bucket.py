"""The objects of a bucket, to read: listed as a stream, fetched in the version that was listed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import obstore
from obstore.exceptions import BaseError, InvalidPathError

from segpipe.buckets.client import Patience, connect
from segpipe.buckets.errors import input_error, is_server_error, told, translated
from segpipe.errors import InputError, Reason, TransientStoreError

if TYPE_CHECKING:
    from obstore import GetOptions, ObjectMeta

PAGE = 1000
"""Objects in one reply of S3 and of Google's storage; Azure's are longer."""


class UnlistableError(Exception):
    """The library cannot express the key of an object, and gives nothing of the reply it is in."""


@dataclass(frozen=True, slots=True)
class Found:
    """An object as the storage tells of it.

    Attributes:
        mtime_ns: when it was written, in whole seconds: a listing may know more than the reply
            about a single object.
        etag: without its quotes, which not every reply has; None where the storage has none.
    """

    key: str
    size: int
    mtime_ns: int
    etag: str | None


class Bucket:
    """A bucket that images are read from; keys are whole.

    Every request is repeated while there is no clear answer, as `Patience` says. If there is none
    in the end, no object is to blame: `TransientStoreError`. Without permission for all of it, or
    without the bucket: `StoreError`.
    """

    def __init__(self, address: str, patience: Patience | None = None) -> None:
        """
        Args:
            address: `s3://BUCKET`, or `gs://`, `az://`.

        Raises:
            SpecError: what the environment says of the storage makes no sense.
        """
        self.address = address
        self._objects = connect(address, patience or Patience())

    def below(self, prefix: str, after: str | None = None) -> Iterator[Found]:
        """The objects below a prefix, page by page, in the order of the storage: that of the keys.

        Args:
            prefix: whole parts of a key: `a/b` has `a/b/c.png` below it, and not `a/bc.png`.
            after: a key; those behind it are listed.

        Raises:
            UnlistableError: there is a key among the next ones that cannot be expressed.
        """
        with self._listing(prefix):
            pages = obstore.list(self._objects, prefix or None, offset=after, chunk_size=PAGE)
        while True:
            with self._listing(prefix):
                page = next(pages, None)
            if page is None:
                return
            yield from map(_found, page)

    def level(self, prefix: str) -> tuple[list[Found], list[str]]:
        """(objects, longer prefixes) right below a prefix, all of them in memory.

        Raises:
            UnlistableError: as `below`.
        """
        with self._listing(prefix):
            found = obstore.list_with_delimiter(self._objects, prefix or None)
        return list(map(_found, found["objects"])), list(found["common_prefixes"])

    def head(self, key: str) -> Found:
        """What the storage knows of an object.

        Raises:
            InputError: there is none that may be read.
        """
        with self._reading(key):
            return _found(obstore.head(self._objects, key))

    def fetch(self, key: str, start: int, length: int, etag: str | None) -> memoryview:
        """Bytes of an object, fewer where it ends before.

        Args:
            etag: of the version that they must be of.

        Raises:
            InputError: it is gone, was overwritten, or may not be read.
        """
        options: GetOptions = {"range": (start, start + length)}
        if etag:
            options["if_match"] = f'"{etag}"'
        with self._reading(key):
            return memoryview(obstore.get(self._objects, key, options=options).bytes())

    @contextlib.contextmanager
    def _listing(self, prefix: str) -> Iterator[None]:
        with translated(f"{self.address}/{prefix}"):
            try:
                yield
            except InvalidPathError as error:
                raise UnlistableError(told(error)) from None

    @contextlib.contextmanager
    def _reading(self, key: str) -> Iterator[None]:
        try:
            yield
        except (FileNotFoundError, ValueError, BaseError) as error:
            url = f"{self.address}/{key}"
            if is_server_error(error) and self._answers():
                detail = f"the storage fails on this object alone: {told(error)}"
                raise InputError(Reason.READ_ERROR, detail) from None
            raise input_error(url, error) from None

    def _answers(self) -> bool:
        """Whether the storage is there at all, whatever it says."""
        try:
            next(iter(self.below("")), None)
        except TransientStoreError:
            return False
        except Exception:
            return True
        return True


def _found(meta: ObjectMeta) -> Found:
    seconds = int(meta["last_modified"].timestamp())
    etag = (meta["e_tag"] or "").strip('"') or None
    return Found(meta["path"], meta["size"], seconds * 1_000_000_000, etag)
