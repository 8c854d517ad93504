"""What a power cut may leave of what a process wrote, by the rules of POSIX.

A name is safe once its folder was synced, bytes are safe once their file was. What was not synced
may be there or not, each change for itself and in any order: only a rename is all or nothing.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from segpipe.store.disk import Disk

TOP = 0
"""The folder that the store lies in; it was there before."""


@dataclass(frozen=True)
class Names:
    """Names that change together: (folder, name, what it now stands for, None for nothing)."""

    changes: tuple[tuple[int, str, int | None], ...]


@dataclass(frozen=True)
class Bytes:
    """A file's content on stable storage."""

    file: int
    data: bytes


@dataclass(frozen=True)
class Sync:
    """The names in a folder are on stable storage."""

    folder: int


@dataclass(frozen=True)
class Promise:
    """From now on these chunks are said to be done."""

    chunks: frozenset[str]


class WriteLog:
    """All changes to the store at `root`, in order."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.events: list[Names | Bytes | Sync | Promise] = []
        self.folders = {TOP}
        self._nodes = {root.parent: TOP}
        self._last = TOP

    def make(self, path: Path, folder: bool = False) -> None:
        self._last += 1
        self._nodes[path] = self._last
        if folder:
            self.folders.add(self._last)
        self._change((path, self._last))

    def link(self, source: Path, target: Path) -> None:
        self._nodes[target] = self._nodes[source]
        self._change((target, self._nodes[source]))

    def rename(self, source: Path, target: Path) -> None:
        self._nodes[target] = node = self._nodes.pop(source)
        self._change((target, node), (source, None))

    def remove(self, path: Path) -> None:
        del self._nodes[path]
        self._change((path, None))

    def write(self, path: Path, data: bytes) -> None:
        self.events.append(Bytes(self._nodes[path], data))

    def sync(self, folder: Path) -> None:
        if folder in self._nodes:  # else it is above, where nothing changes
            self.events.append(Sync(self._nodes[folder]))

    def _change(self, *changes: tuple[Path, int | None]) -> None:
        named = ((self._nodes[path.parent], path.name, node) for path, node in changes)
        self.events.append(Names(tuple(named)))


class RecordingDisk(Disk):
    """Writes down what it does, once it is done."""

    def __init__(self, log: WriteLog) -> None:
        self._log = log

    def before(self) -> None:
        """Called before each change."""

    def make_folder(self, path: Path) -> None:
        self.before()
        for folder in reversed([path, *path.parents]):
            if not folder.is_dir():
                folder.mkdir()
                self._log.make(folder, folder=True)

    def write(self, path: Path, data: bytes) -> None:
        self.before()
        super().write(path, data)
        self._log.make(path)
        self._log.write(path, data)

    def overwrite(self, path: Path, data: bytes) -> None:
        self.before()
        super().overwrite(path, data)
        self._log.write(path, data)

    def sync_file(self, file: BinaryIO) -> None:
        self.before()
        super().sync_file(file)
        self._log.write(Path(file.name), Path(file.name).read_bytes())

    def link(self, source: Path, target: Path) -> None:
        self.before()
        super().link(source, target)
        self._log.link(source, target)

    def rename_new(self, source: Path, target: Path) -> None:
        self.before()
        super().rename_new(source, target)
        self._log.rename(source, target)

    def rename(self, source: Path, target: Path) -> None:
        self.before()
        super().rename(source, target)
        self._log.rename(source, target)

    def remove(self, path: Path) -> None:
        self.before()
        super().remove(path)
        self._log.remove(path)

    def remove_folder(self, path: Path) -> None:
        self.before()
        inner = sorted(path.rglob("*"), key=lambda p: len(p.parts), reverse=True)
        super().remove_folder(path)
        for gone in [*inner, path]:
            self._log.remove(gone)

    def sync_folder(self, path: Path) -> None:
        self.before()
        super().sync_folder(path)
        self._log.sync(path)


@dataclass
class Remains:
    """What is on the disk after a power cut.

    Attributes:
        names: folder -> name -> what it stands for.
        contents: file -> bytes.
        promised: chunks that had been said to be done.
    """

    names: dict[int, dict[str, int]] = field(default_factory=dict)
    contents: dict[int, bytes] = field(default_factory=dict)
    promised: frozenset[str] = frozenset()

    def apply(self, names: Names) -> None:
        for folder, name, node in names.changes:
            entries = self.names.setdefault(folder, {})
            if node is None:
                entries.pop(name, None)
            else:
                entries[name] = node

    def restore(self, folder: Path, folders: set[int], node: int = TOP) -> None:
        """Make it a real folder; `folders` tells the nodes that are no files."""
        folder.mkdir()
        for name, inner in self.names.get(node, {}).items():
            if inner in folders:
                self.restore(folder / name, folders, inner)
            else:
                (folder / name).write_bytes(self.contents.get(inner, b""))


def cut_power(log: WriteLog, after: int, rng: random.Random, folder: Path) -> frozenset[str]:
    """Restore below `folder` what may be left when the power goes after so many events.

    Returns:
        The chunks that had been said to be done by then.
    """
    remains = Remains()
    waiting: list[Names] = []
    for event in log.events[:after]:
        match event:
            case Names():
                waiting.append(event)
            case Bytes(file, data):
                remains.contents[file] = data
            case Promise(chunks):
                remains.promised = chunks
            case Sync(synced):
                safe = [names for names in waiting if _touches(names, synced)]
                waiting = [names for names in waiting if names not in safe]
                _apply(remains, safe)
    if after < len(log.events) and isinstance(torn := log.events[after], Bytes):
        remains.contents[torn.file] = torn.data[: rng.randrange(len(torn.data) + 1)]
    share = rng.choice([0, 0.5, 0.9, 1])
    _apply(remains, (names for names in waiting if rng.random() < share))
    remains.restore(folder, log.folders)
    return remains.promised


def _touches(names: Names, folder: int) -> bool:
    return any(changed == folder for changed, _, _ in names.changes)


def _apply(remains: Remains, many: Iterable[Names]) -> None:
    for names in many:
        remains.apply(names)
