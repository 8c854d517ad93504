"""A store on object storage: S3 and what speaks as it does, Google Cloud Storage, Azure.

An object appears whole or not at all and stays when its write was acknowledged, so nothing here
has a temporary name and nothing is synced. What is left to get right is the answer: a request may
have been carried out although its reply was lost, and a refusal may be of one's own earlier try.
So after every answer to a conditional write but a clear yes, what stands is looked at.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import tempfile
import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, BinaryIO, cast

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError

from segpipe.buckets.client import Patience, check_address, connect
from segpipe.buckets.errors import absent, failure, told, translated
from segpipe.errors import StoreError, TransientStoreError
from segpipe.store.files import TEMPORARY, SweptError

if TYPE_CHECKING:
    import pyarrow.fs as pafs
    from obstore import ObjectMeta
    from zarr.storage import StoreLike

_SPOOL_BYTES = 16 << 20


class ObjectFiles:
    """A store under a prefix of a bucket.

    Where and who is said by the environment, as for other programs: `AWS_ACCESS_KEY_ID`,
    `AWS_SECRET_ACCESS_KEY`, `AWS_REGION`, `AWS_ENDPOINT_URL` and so on, or by the machine's role.

    Methods raise `FileNotFoundError` where an object is missing, `TransientStoreError` where the
    storage gave no answer in time, and `StoreError` where it refused.
    """

    def __init__(self, address: str, patience: Patience | None = None) -> None:
        """
        Args:
            address: `s3://BUCKET/PREFIX`, or `gs://`, `az://`; without any secret.

        Raises:
            SpecError: not such an address.
        """
        self.address = check_address(address)
        self._patience = patience or Patience()
        self._objects = connect(self.address, self._patience)
        # Whoever repeats a conditional write must look in between.
        self._once = connect(self.address, Patience(times=0))

    def arrow(self) -> pafs.FileSystem:
        """The store as Arrow's readers take it; paths are relative to the store, as here."""
        from segpipe.store.object_readers import arrow_files

        return arrow_files(self._objects, self.address)

    def zarr(self, path: str) -> StoreLike:
        """A folder of the store as Zarr takes it, to read only."""
        from zarr.storage import StorePath

        from segpipe.store.object_readers import ZarrObjects

        return StorePath(ZarrObjects(self._objects, self.address), path)

    def write(self, path: str, data: bytes) -> None:
        """A new object; its name must not be in use, except by the same bytes."""
        if not self.create(path, data):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), self._url(path))

    def create(self, path: str, data: bytes) -> bool:
        """The object appears, and only if there was none.

        Only success is taken at its word. A lost reply, a time-out, 503, 409 (S3 was busy with
        another write of this name) and 412 (the name is in use, maybe by an earlier try of this
        very call) all mean that nobody knows, and the object itself is asked. So callers of whom
        one must lose need different bytes, as two commits have: each names its attempt.

        Returns:
            False if other bytes have the name; then nothing was changed. True if these have it.

        Raises:
            TransientStoreError: no clear answer; the object may appear yet.
        """
        unclear = TransientStoreError(f"{self._url(path)}: not written")
        for pause in self._patience.pauses():
            time.sleep(pause)
            try:
                obstore.put(self._once, path, data, mode="create", use_multipart=False)
            except AlreadyExistsError as error:
                unclear = TransientStoreError(f"{self._url(path)}: {told(error)}")
            except (FileNotFoundError, BaseError) as error:
                refused = failure(self._url(path), error)
                if not isinstance(refused, TransientStoreError):
                    raise refused from None
                unclear = refused
            else:
                return True
            with contextlib.suppress(FileNotFoundError):
                return self.read(path) == data
        raise unclear

    def commit(self, ticket: str, path: str, data: bytes) -> bool:
        """`create`, but only if the object `ticket` is there.

        Object storage cannot do both in one step. If the ticket is removed between the look at it
        and the write, the object appears all the same. That is a fraction of a second, or the few
        minutes for which an unclear answer is tried again, but as long as you like if the process
        is stopped right there. Only the grace period of `gc` covers it.

        Raises:
            SweptError: the ticket is gone.
        """
        if self._head(ticket) is None:
            raise SweptError(f"{ticket}: was cleared away before {path} could be made")
        return self.create(path, data)

    def replace(self, path: str, data: bytes) -> None:
        """The object holds `data` from one instant to the next, whatever it held before."""
        with translated(self._url(path)):
            obstore.put(self._objects, path, data, use_multipart=False)

    @contextlib.contextmanager
    def stream(self, path: str) -> Iterator[BinaryIO]:
        """An object too large for memory: it appears whole when the block ends well, else not.

        Until then it is a temporary file of this machine, so that a block that raises, or is
        killed, leaves no half of an upload in the bucket.
        """
        with tempfile.SpooledTemporaryFile(_SPOOL_BYTES) as file:
            yield cast(BinaryIO, file)
            file.seek(0)
            with translated(self._url(path)):
                obstore.put(self._objects, path, file)

    def publish(self, source: str, target: str) -> None:
        """The bytes of `source` under a second name; nothing happens if that is there already.

        Then `source` may be gone too: another process has published and cleared it.
        """
        if self._head(target) is not None:
            return
        try:
            with translated(self._url(source)):
                obstore.copy(self._objects, source, target)
        except FileNotFoundError:
            if self._head(target) is None:
                raise

    def remove(self, path: str) -> None:
        """The object, or all below the prefix, is gone; nothing happens if there is none."""
        inner = [meta["path"] for meta in self._below(path)]
        unclear = TransientStoreError(f"{self._url(path)}: not removed")
        # The library does not repeat this request, since it is a POST; it may well be repeated.
        for pause in self._patience.pauses():
            time.sleep(pause)
            try:
                with contextlib.suppress(FileNotFoundError), translated(self._url(path)):
                    obstore.delete(self._once, inner or [path])
            except TransientStoreError as error:
                unclear = error
            else:
                return
        raise unclear

    def sync(self, folders: Iterable[str]) -> None:
        """Nothing: an acknowledged write is durable."""

    def read(self, path: str) -> bytes:
        with translated(self._url(path)):
            return bytes(obstore.get(self._objects, path).bytes())

    def names(self, folder: str) -> Iterator[str]:
        """Names right below a prefix, unordered, temporary ones left out; none if it is empty."""
        return (name for name in self._entries(folder) if not name.startswith("."))

    def temporary(self, folder: str) -> Iterator[str]:
        """Names right below a prefix of what was to be removed soon."""
        return (name for name in self._entries(folder) if name.startswith(TEMPORARY))

    def exists(self, path: str) -> bool:
        return next(self._found(path), None) is not None

    def modified(self, path: str) -> float:
        """When it, or the newest object below it, was written, in seconds, by the storage's clock.

        S3 tells whole seconds.
        """
        times = [meta["last_modified"].timestamp() for meta in self._found(path)]
        if not times:
            raise absent(self._url(path))
        return max(times)

    def size(self, path: str) -> int:
        """Bytes of an object, or of all objects below a prefix."""
        return sum(meta["size"] for meta in self._found(path))

    def probe(self) -> None:
        """Try what the commit protocol needs before any work starts.

        Raises:
            StoreError: names the address and what the storage refused, or that it does not keep
                the one promise that a commit rests on.
        """
        folder = f"{TEMPORARY}probe-{secrets.token_hex(8)}"
        try:
            self.write(f"{folder}/a", b"segpipe")
            refused = not self.create(f"{folder}/a", b"other")
            whole = self.read(f"{folder}/a") == b"segpipe"
        except (FileExistsError, FileNotFoundError, StoreError) as error:
            raise StoreError(
                f"{self.address}: the store needs a bucket where objects can be written, read, "
                f"listed and removed: {error}"
            ) from error
        finally:
            with contextlib.suppress(StoreError):
                self.remove(folder)
        if not refused or not whole:
            raise StoreError(
                f"{self.address}: this server ignores `If-None-Match: *`, so that of two runs both "
                "could commit the same chunk; use one with conditional writes (Amazon S3, MinIO, "
                "Cloudflare R2, Google Cloud Storage, Azure), or a local store"
            )

    def _entries(self, folder: str) -> Iterator[str]:
        with translated(self._url(folder)):
            found = obstore.list_with_delimiter(self._objects, folder or None)
        paths = (*found["common_prefixes"], *(meta["path"] for meta in found["objects"]))
        # A console makes an empty object of the folder's own name.
        return (path.rpartition("/")[2] for path in paths if path != folder)

    def _found(self, path: str) -> Iterator[ObjectMeta]:
        """The object of this name, or else all below it."""
        if (meta := self._head(path)) is not None:
            yield meta
        else:
            yield from self._below(path)

    def _head(self, path: str) -> ObjectMeta | None:
        with contextlib.suppress(FileNotFoundError), translated(self._url(path)):
            return obstore.head(self._objects, path)
        return None

    def _below(self, folder: str) -> Iterator[ObjectMeta]:
        with translated(self._url(folder)):
            for batch in obstore.list(self._objects, folder, chunk_size=1000):
                yield from batch

    def _url(self, path: str) -> str:
        return f"{self.address}/{path}".rstrip("/")
