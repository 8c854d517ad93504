"""Few large sorted parts beside the many small ones, for queries over a large store.

A compaction is a copy: the small parts stay where they are, so `objects/*.parquet` and
`images/*.parquet` go on to hold every row exactly once, and so does the folder of a compaction, up
to the moment when it was made. A snapshot takes the newest compaction, and the small parts of the
chunks that are not in it. It is committed as a chunk is: by a ticket that becomes the manifest.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from segpipe.errors import StoreError
from segpipe.records import StoredFile, digest
from segpipe.store import layout
from segpipe.store.files import Files
from segpipe.store.tables import completed, encode_table
from segpipe.store.tombstones import hidden_chunks

PART_ROWS = 1_000_000
"""Rows of a part after which the next one begins; a chunk is never cut in two."""

MIN_CHUNKS = 256
"""Published parts of which a query does not mind."""

SORTED_BY = {
    "images": [("path", "ascending"), ("run_id", "ascending")],
    "objects": [("image_id", "ascending"), ("run_id", "ascending"), ("label", "ascending")],
}


@dataclass(frozen=True, slots=True)
class Compaction:
    """A committed compaction.

    Attributes:
        folder: of its files, relative to the store.
        files: path relative to the store -> size and sha256.
        chunks: ids of the chunks whose rows it holds, all of them and nothing else.
    """

    number: int
    folder: str
    files: Mapping[str, StoredFile]
    chunks: frozenset[str]

    def parts(self, table: str) -> list[str]:
        """Paths of its parts of `images` or `objects`, in their order."""
        return sorted(p for p in self.files if p.startswith(f"{self.folder}/{table}-"))


def compact(files: Files, part_rows: int = PART_ROWS) -> Compaction | None:
    """Copy the rows of all published chunks into few sorted parts.

    Memory holds one part of each table at a time. Parts follow each other by path, and are sorted
    as `SORTED_BY` says.

    Returns:
        The compaction that now stands; None where there is nothing to compact.

    Raises:
        SweptError: it was cleared away while at work, or a run was forgotten meanwhile.
        StoreError: another compaction was quicker.
    """
    number = max(_numbers(files), default=0) + 1
    writer = _Writer(files, number)
    try:
        # The ticket is there before the store is looked at: see `drop_compactions`.
        hidden = hidden_chunks(files)
        published = (name.removesuffix(".parquet") for name in files.names("images"))
        ordered = _in_order(files, [chunk for chunk in published if chunk not in hidden])
        if not ordered:
            writer.discard()
            return None
        for group in _groups(ordered, part_rows):
            writer.write(group)
        return writer.commit([chunk for _, _, chunk in ordered])
    except BaseException:
        writer.discard()
        raise


def is_compaction_due(files: Files) -> bool:
    """Whether so much was published since the newest compaction that a new one pays.

    A compaction copies everything. Made when a quarter is new, compactions together copy each row
    a few times, however many nights there are.
    """
    newest = newest_compaction(files)
    published = sum(1 for _ in files.names("images"))
    since = published - len(newest.chunks) if newest else published
    return since >= max(MIN_CHUNKS, published // 4)


def newest_compaction(files: Files) -> Compaction | None:
    """The one that snapshots use."""
    return read_compaction(files, max(numbers)) if (numbers := _numbers(files)) else None


def compactions(files: Files) -> Iterator[Compaction]:
    """All that stand, oldest first."""
    for number in sorted(_numbers(files)):
        yield read_compaction(files, number)


def read_compaction(files: Files, number: int) -> Compaction:
    """
    Raises:
        StoreError: its manifest or its list of chunks is not what was written.
    """
    path = layout.compaction_file(number)
    try:
        raw = json.loads(files.read(path))
        if raw.pop("sha256") != digest(raw):
            raise ValueError("its content does not match its own sha256")
        stored = {name: StoredFile(**about) for name, about in raw["files"].items()}
        listed = _chunk_list(raw["folder"])
        chunks = files.read(listed)
        if hashlib.sha256(chunks).hexdigest() != stored[listed].sha256:
            raise ValueError(f"{listed} is not what was committed")
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise StoreError(
            f"{path}: not a readable compaction: {error}; remove this file to do without it"
        ) from error
    return Compaction(number, raw["folder"], stored, frozenset(chunks.decode().split()))


def drop_compactions(files: Files, chunks: Collection[str]) -> None:
    """Remove every compaction that holds one of these chunks, or may come to hold one.

    One that is at work loses its ticket, so that it cannot be committed. One that begins later
    does not see the chunks, which must be hidden before this is called.
    """
    standing = list(compactions(files))
    dropped = [found for found in standing if not found.chunks.isdisjoint(chunks)]
    for compaction in dropped:
        files.remove(layout.compaction_file(compaction.number))
    if dropped:
        files.sync([layout.COMPACTED])  # no power cut shows a manifest without its files
    for compaction in dropped:
        files.remove(compaction.folder)
    finished = {compaction.folder for compaction in standing}
    for name in files.names(layout.COMPACTED):
        folder = f"{layout.COMPACTED}/{name}"
        if not name.endswith(".json") and folder not in finished:
            files.remove(_ticket(folder))


class _Writer:
    """The files of a compaction that is being made."""

    def __init__(self, files: Files, number: int) -> None:
        self._files = files
        self._number = number
        self._folder = f"{layout.COMPACTED}/{number:06d}.{secrets.token_hex(6)}"
        self._written: dict[str, StoredFile] = {}
        self._may_stand = False
        self._parts = 0
        files.write(_ticket(self._folder), b"{}")

    def write(self, chunks: list[str]) -> None:
        """One part of each table."""
        for table, keys in SORTED_BY.items():
            paths = [layout.published_part(chunk, table) for chunk in chunks]
            rows = pa.concat_tables(
                completed(table, pq.read_table(path, filesystem=self._files.arrow()))
                for path in paths
            )
            data = encode_table(table, rows.sort_by(keys))
            self._keep(f"{self._folder}/{table}-{self._parts:04d}.parquet", data)
        self._parts += 1

    def commit(self, chunks: list[str]) -> Compaction:
        self._keep(_chunk_list(self._folder), "\n".join(sorted(chunks)).encode())
        self._files.sync([self._folder])
        content = {
            "folder": self._folder,
            "files": {p: {"size": f.size, "sha256": f.sha256} for p, f in self._written.items()},
        }
        text = json.dumps({**content, "sha256": digest(content)}, sort_keys=True, indent=1)
        path = layout.compaction_file(self._number)
        self._may_stand = True
        if not self._files.commit(_ticket(self._folder), path, text.encode()):
            self._may_stand = False
            raise StoreError(f"{path}: another compaction was quicker; this one is given up")
        return Compaction(self._number, self._folder, self._written, frozenset(chunks))

    def discard(self) -> None:
        if not self._may_stand:
            self._files.remove(self._folder)

    def _keep(self, path: str, data: bytes) -> None:
        self._files.write(path, data)
        self._written[path] = StoredFile(len(data), hashlib.sha256(data).hexdigest())


def _in_order(files: Files, chunk_ids: list[str]) -> list[tuple[str, int, str]]:
    """(first path, rows of its larger table, id) of each chunk, by its first path."""
    found = []
    for chunk_id in chunk_ids:
        part = layout.published_part(chunk_id, "images")
        images = pq.read_table(part, columns=["path", "n_objects"], filesystem=files.arrow())
        rows = max(images.num_rows, pc.sum(images["n_objects"]).as_py() or 0)
        found.append((pc.min(images["path"]).as_py(), rows, chunk_id))
    return sorted(found)


def _groups(ordered: list[tuple[str, int, str]], part_rows: int) -> Iterator[list[str]]:
    group: list[str] = []
    total = 0
    for _, rows, chunk_id in ordered:
        if group and total + rows > part_rows:
            yield group
            group, total = [], 0
        group.append(chunk_id)
        total += rows
    yield group


def _numbers(files: Files) -> list[int]:
    names = (name.removesuffix(".json") for name in files.names(layout.COMPACTED))
    return [int(name) for name in names if name.isdecimal()]


def _ticket(folder: str) -> str:
    return f"{folder}/ticket"


def _chunk_list(folder: str) -> str:
    return f"{folder}/chunks.txt"
