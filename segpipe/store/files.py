"""The seam to storage: every byte that a store gains or loses passes through `Files`.

Tests wrap it to crash, fail or delay the k-th operation. Paths are relative to the store, with
forward slashes. A temporary name starts with a dot and matches no pattern that readers glob for.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Protocol

from segpipe.errors import StoreError


class Files(Protocol):
    """The operations of the commit protocol; see `LocalFiles` for what each promises."""

    def write(self, path: str, data: bytes) -> None: ...
    def create(self, path: str, data: bytes) -> bool: ...
    def replace(self, path: str, data: bytes) -> None: ...
    def stream(self, path: str) -> AbstractContextManager[BinaryIO]: ...
    def publish(self, source: str, target: str) -> None: ...
    def remove_folder(self, path: str) -> None: ...
    def sync(self, folders: Iterable[str]) -> None: ...
    def read(self, path: str) -> bytes: ...
    def names(self, folder: str) -> Iterator[str]: ...
    def exists(self, path: str) -> bool: ...
    def local_path(self, path: str) -> Path: ...


class LocalFiles:
    """A store in a folder of a local or shared file system that has hard links and fsync."""

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root).absolute()

    def local_path(self, path: str) -> Path:
        """Where `path` lies, for readers that open files themselves."""
        return self.root / path

    def write(self, path: str, data: bytes) -> None:
        """A new file on stable storage; its name must not be in use."""
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("xb") as file:
            file.write(data)
            _flush(file)

    def create(self, path: str, data: bytes) -> bool:
        """The file appears whole or not at all, and only if there was none.

        Returns:
            False if the name was taken; then nothing was changed.
        """
        target = self.root / path
        temporary = str(PurePosixPath(path).parent / f".tmp-{secrets.token_hex(8)}")
        try:
            self.write(temporary, data)
            os.link(self.root / temporary, target)
        except FileExistsError:
            return False
        finally:
            (self.root / temporary).unlink(missing_ok=True)
        self._sync_folder(target.parent)
        return True

    def replace(self, path: str, data: bytes) -> None:
        """The file holds `data` from one instant to the next, whatever it held before."""
        with self.stream(path) as file:
            file.write(data)

    @contextlib.contextmanager
    def stream(self, path: str) -> Iterator[BinaryIO]:
        """A file too large for memory: it appears whole when the block ends well, else not."""
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.parent / f".tmp-{secrets.token_hex(8)}"
        try:
            with temporary.open("xb") as file:
                yield file
                _flush(file)
            temporary.replace(target)
            self._sync_folder(target.parent)
        finally:
            temporary.unlink(missing_ok=True)

    def publish(self, source: str, target: str) -> None:
        """The bytes of `source` under a second name; nothing happens if that is there already.

        Then `source` may be gone too: another process has published and cleared it.
        """
        published = self.root / target
        published.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(self.root / source, published)
        except FileExistsError:
            pass
        except FileNotFoundError:
            if not published.exists():
                raise

    def remove_folder(self, path: str) -> None:
        """The folder and all in it; nothing happens if there is none."""
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(self.root / path)

    def sync(self, folders: Iterable[str]) -> None:
        """The names in these folders, and of the folders above them, are on stable storage."""
        seen = {self.root}
        for folder in folders:
            path = self.root / folder
            seen.update([path, *(p for p in path.parents if self.root in p.parents)])
        for path in sorted(seen, key=lambda p: len(p.parts), reverse=True):
            self._sync_folder(path)

    def read(self, path: str) -> bytes:
        return (self.root / path).read_bytes()

    def names(self, folder: str) -> Iterator[str]:
        """Names in a folder, unordered, temporary ones left out; none if there is no folder."""
        with contextlib.suppress(FileNotFoundError), os.scandir(self.root / folder) as entries:
            for entry in entries:
                if not entry.name.startswith("."):
                    yield entry.name

    def exists(self, path: str) -> bool:
        return (self.root / path).exists()

    @staticmethod
    def _sync_folder(path: Path) -> None:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def probe(files: LocalFiles) -> None:
    """Try what the commit protocol needs before any work starts.

    Raises:
        StoreError: names the folder and the operation that its file system refuses.
    """
    name = f".probe-{secrets.token_hex(8)}"
    try:
        files.write(f"{name}/a", b"segpipe")
        files.publish(f"{name}/a", f"{name}/b")
        files.sync([name])
        linked = files.read(f"{name}/b") == b"segpipe"
    except OSError as error:
        raise StoreError(
            f"{files.root}: the store needs a folder that can be written to, with hard links and "
            f"fsync; this one refused: {error.strerror or error}"
        ) from error
    finally:
        with contextlib.suppress(OSError):
            files.remove_folder(name)
    if not linked:
        raise StoreError(f"{files.root}: a hard link does not show the bytes of its file")


def _flush(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())
