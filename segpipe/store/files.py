"""The seam to storage: every byte that a store gains or loses passes through `Files`.

Paths are relative to the store, with forward slashes. A temporary name starts with a dot and
matches no pattern that readers glob for.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol

from segpipe.errors import StoreError, TransientStoreError
from segpipe.store.disk import NO_LINKS, Disk

if TYPE_CHECKING:
    import pyarrow.fs as pafs
    from zarr.storage import StoreLike

MIN_FREE_BYTES = 64 << 20
"""A run is not started with less room than this."""

TEMPORARY = ".tmp-"
"""How the names of files begin that are not whole yet."""


class SweptError(TransientStoreError):
    """An attempt was cleared away by `gc` while it was at work; a new attempt is right."""


class Files(Protocol):
    """The operations of the commit protocol; see `LocalFiles` for what each promises."""

    @property
    def address(self) -> str: ...
    def write(self, path: str, data: bytes) -> None: ...
    def create(self, path: str, data: bytes) -> bool: ...
    def commit(self, ticket: str, path: str, data: bytes) -> bool: ...
    def replace(self, path: str, data: bytes) -> None: ...
    def stream(self, path: str) -> AbstractContextManager[BinaryIO]: ...
    def publish(self, source: str, target: str) -> None: ...
    def remove(self, path: str) -> None: ...
    def sync(self, folders: Iterable[str]) -> None: ...
    def read(self, path: str) -> bytes: ...
    def names(self, folder: str) -> Iterator[str]: ...
    def temporary(self, folder: str) -> Iterator[str]: ...
    def exists(self, path: str) -> bool: ...
    def modified(self, path: str) -> float: ...
    def size(self, path: str) -> int: ...
    def probe(self) -> None: ...
    def arrow(self) -> pafs.FileSystem: ...
    def zarr(self, path: str) -> StoreLike: ...


class LocalFiles:
    """A store in a folder of a local or shared file system that has fsync.

    Every method may raise `OSError`; what a method changed by then is what a kill at that moment
    leaves behind.
    """

    def __init__(self, root: str | Path, disk: Disk | None = None) -> None:
        """`disk` makes the system calls; tests give one that fails."""
        self.root = Path(root).absolute()
        self._disk = disk or Disk()

    @property
    def address(self) -> str:
        """What opens these files again, here or on a machine that sees the same folder."""
        return str(self.root)

    def local_path(self, path: str) -> Path:
        """Where `path` lies, for readers that open files themselves."""
        return self.root / path

    def arrow(self) -> pafs.FileSystem:
        """The store as Arrow's readers take it; paths are relative to the store, as here."""
        import pyarrow.fs as pafs

        return pafs.SubTreeFileSystem(str(self.root), pafs.LocalFileSystem())

    def zarr(self, path: str) -> StoreLike:
        """A folder of the store as Zarr takes it, to read only."""
        from zarr.storage import LocalStore

        return LocalStore(self.root / path, read_only=True)

    def write(self, path: str, data: bytes) -> None:
        """A new file on stable storage; its name must not be in use."""
        target = self.root / path
        self._disk.make_folder(target.parent)
        self._disk.write(target, data)

    def create(self, path: str, data: bytes) -> bool:
        """The file appears whole or not at all, and only if there was none.

        Returns:
            False if the name was taken; then nothing was changed.
        """
        target = self.root / path
        temporary = target.parent / f"{TEMPORARY}{secrets.token_hex(8)}"
        self._disk.make_folder(target.parent)
        try:
            self._disk.write(temporary, data)
            self._name(temporary, target)
        except FileExistsError:
            return False
        finally:
            with contextlib.suppress(FileNotFoundError):
                self._disk.remove(temporary)
        self._disk.sync_folder(target.parent)
        return True

    def commit(self, ticket: str, path: str, data: bytes) -> bool:
        """`create`, but only while the file `ticket` is there: it becomes the file at `path`.

        Whoever removes the ticket first can be sure that the file will not appear; whoever finds
        the file after removing the ticket was too late. No clock is needed to tell the two apart.

        Raises:
            SweptError: the ticket is gone.
        """
        target = self.root / path
        self._disk.make_folder(target.parent)
        try:
            self._disk.overwrite(self.root / ticket, data)
            self._name(self.root / ticket, target)
        except FileExistsError:
            return False
        except FileNotFoundError as error:
            raise SweptError(f"{ticket}: was cleared away before {path} could be made") from error
        self._disk.sync_folder(target.parent)
        return True

    def replace(self, path: str, data: bytes) -> None:
        """The file holds `data` from one instant to the next, whatever it held before."""
        with self.stream(path) as file:
            file.write(data)

    @contextlib.contextmanager
    def stream(self, path: str) -> Iterator[BinaryIO]:
        """A file too large for memory: it appears whole when the block ends well, else not."""
        target = self.root / path
        temporary = target.parent / f"{TEMPORARY}{secrets.token_hex(8)}"
        self._disk.make_folder(target.parent)
        try:
            self._disk.write(temporary, b"")
            with temporary.open("r+b") as file:
                yield file
                self._disk.sync_file(file)
            self._disk.rename(temporary, target)
            self._disk.sync_folder(target.parent)
        finally:
            with contextlib.suppress(FileNotFoundError):
                self._disk.remove(temporary)

    def publish(self, source: str, target: str) -> None:
        """The bytes of `source` under a second name; nothing happens if that is there already.

        Then `source` may be gone too: another process has published and cleared it.
        """
        published = self.root / target
        self._disk.make_folder(published.parent)
        try:
            self._name(self.root / source, published)
        except FileExistsError:
            pass
        except FileNotFoundError:
            if not published.exists():
                raise

    def remove(self, path: str) -> None:
        """The file, or the folder and all in it, is gone; nothing happens if there is none."""
        target = self.root / path
        with contextlib.suppress(FileNotFoundError):
            if target.is_dir():
                self._disk.remove_folder(target)
            else:
                self._disk.remove(target)

    def sync(self, folders: Iterable[str]) -> None:
        """The names in these folders, and of the folders above them, are on stable storage.

        Of the store itself, `""`, also the names of the folders that it lies in.
        """
        seen = {self.root}
        for folder in folders:
            path = self.root / folder
            above = (p for p in path.parents if not folder or self.root in p.parents)
            seen.update([path, *above])
        for path in sorted(seen, key=lambda p: len(p.parts), reverse=True):
            try:
                self._disk.sync_folder(path)
            except OSError:
                if path == self.root or self.root in path.parents:
                    raise  # else it is not ours: what we may not open we did not make

    def read(self, path: str) -> bytes:
        return (self.root / path).read_bytes()

    def names(self, folder: str) -> Iterator[str]:
        """Names in a folder, unordered, temporary ones left out; none if there is no folder."""
        return (name for name in self._entries(folder) if not name.startswith("."))

    def temporary(self, folder: str) -> Iterator[str]:
        """Names in a folder of what never became whole, or is not yet."""
        return (name for name in self._entries(folder) if name.startswith(TEMPORARY))

    def exists(self, path: str) -> bool:
        return (self.root / path).exists()

    def modified(self, path: str) -> float:
        """When it was written last, in seconds, by the clock of the storage."""
        return (self.root / path).stat().st_mtime

    def size(self, path: str) -> int:
        """Bytes of a file, or of all files below a folder."""
        target = self.root / path
        if target.is_file():
            return target.stat().st_size
        return sum(file.stat().st_size for file in target.rglob("*") if file.is_file())

    def probe(self) -> None:
        """Try what the commit protocol needs before any work starts.

        Raises:
            StoreError: names the folder, and the operation that its file system refuses or the
                room that is missing.
        """
        name = f"{TEMPORARY}probe-{secrets.token_hex(8)}"
        try:
            self.write(f"{name}/a", b"segpipe")
            self._probe_names(name)
            self.sync([name])
            whole = self.read(f"{name}/b") == b"segpipe"
            free = shutil.disk_usage(self.root).free
        except OSError as error:
            raise StoreError(
                f"{self.root}: the store needs a folder that can be written to, with hard links "
                "(or a rename that never replaces) and fsync; this one refused: "
                f"{error.strerror or error}"
            ) from error
        finally:
            with contextlib.suppress(OSError):
                self.remove(name)
        if not whole:
            raise StoreError(f"{self.root}: a second name does not show the bytes of its file")
        if free < MIN_FREE_BYTES:
            raise StoreError(
                f"{self.root}: {free:,} bytes are free; at least {MIN_FREE_BYTES:,} are needed to "
                "begin; free some space or choose another store"
            )

    def _probe_names(self, folder: str) -> None:
        """A name that is in use must be refused, by whichever way of naming there is."""
        self.publish(f"{folder}/a", f"{folder}/b")
        if not self.exists(f"{folder}/a"):
            logging.getLogger(__name__).warning(
                "%s: no hard links here; commits use renameat2(RENAME_NOREPLACE)", self.root
            )
        self.write(f"{folder}/c", b"other")
        with contextlib.suppress(FileExistsError):
            self._name(self.root / folder / "c", self.root / folder / "b")
            raise StoreError(f"{self.root}: its file system replaces files that it should not")

    def _name(self, source: Path, target: Path) -> None:
        """A new name for a file, by a hard link or, where there are none, by moving it."""
        try:
            self._disk.link(source, target)
        except OSError as error:
            if error.errno not in NO_LINKS:
                raise
            self._disk.rename_new(source, target)

    def _entries(self, folder: str) -> Iterator[str]:
        with contextlib.suppress(FileNotFoundError), os.scandir(self.root / folder) as entries:
            for entry in entries:
                yield entry.name


def failure_text(error: OSError) -> str:
    """What went wrong with a store, and what to do."""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    todo = "free some space" if full else "mend it"
    return (
        f"{error.strerror or error}; {todo} and give the same command again: what is committed "
        "stays, and the run goes on from it"
    )
