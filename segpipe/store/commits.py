"""One execution of a chunk: everything it writes, and the commit that makes it true.

In order: (0) a ticket says that the attempt is at work, (1) masks and tables under an attempt
name that nobody else uses, (2) the caller looks at the inputs again, (3) folders are synced,
(4) `commits/<chunk>.json` is created if absent, from the ticket, (5) the parts are published under
their final names. Whoever loses at (4) removes only its own files. A crash before (4) leaves files
that nothing refers to; after (4), `recover` goes on. `gc` clears an attempt away by removing its
ticket first: then step (4) cannot succeed any more, however late it comes.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from segpipe.errors import StoreError
from segpipe.records import Chunk, Commit, StoredFile
from segpipe.store import layout
from segpipe.store.files import Files, SweptError
from segpipe.store.masks import ArrayName, MaskWriter
from segpipe.store.pyramids import PyramidWriter
from segpipe.store.tables import encode_part


class Attempt:
    """The files of one execution of one chunk.

    Attributes:
        name: unique to this execution.
        group: folder of its masks, relative to the store.
    """

    def __init__(self, files: Files, chunk: Chunk, run_id: str, label: str = "") -> None:
        """`label` is part of the attempt's name, for whoever has to find it (see `read_crumbs`)."""
        self._files = files
        self._chunk = chunk
        self._chunk_id = chunk_id = chunk.chunk_id
        self._run_id = run_id
        self.name = f"{label}{secrets.token_hex(6)}"
        self.group = layout.masks_group(chunk_id, self.name)
        self._staging = layout.staging_folder(chunk_id, self.name)
        self._masks: dict[str, StoredFile] = {}
        self._parts: dict[str, StoredFile] = {}
        self._folders: set[str] = set()
        self._may_stand = False
        self._ticket = layout.ticket(chunk_id, self.name)
        files.write(self._ticket, json.dumps({"run_id": run_id}).encode())

    def mask_writer(
        self,
        shapes: Iterable[tuple[int, int]],
        dtypes: Mapping[ArrayName, type[np.unsignedinteger[Any]]],
    ) -> MaskWriter:
        """Where this attempt's masks go; hand it back to `close_masks`."""
        return MaskWriter(self._files, self.group, shapes, dtypes)

    def pyramid_writer(
        self,
        image_id: str,
        shape: tuple[int, int],
        dtypes: Mapping[ArrayName, type[np.unsignedinteger[Any]]],
    ) -> PyramidWriter:
        """The same for one large image; before or after the other masks."""
        return PyramidWriter(self._files, f"{self.group}/{image_id}", shape, dtypes)

    def close_masks(self, writer: MaskWriter | PyramidWriter) -> None:
        self._masks |= writer.close()
        self._folders |= writer.folders

    def write_table(self, table: str, columns: Mapping[str, Sequence[Any]]) -> None:
        """Stage the chunk's part of `images` or `objects`."""
        data = encode_part(table, columns)
        self._files.write(layout.staged_part(self._chunk_id, self.name, table), data)
        self._parts[table] = StoredFile(len(data), hashlib.sha256(data).hexdigest())
        self._folders.add(self._staging)

    def leave_crumb(self, index: int) -> None:
        """Say which image is being worked on, for whoever looks after a sudden death."""
        self._files.replace(f"{self._staging}/crumb", str(index).encode())

    def commit(self, **counts: Any) -> Commit:
        """Make the chunk done, and publish it.

        Returns:
            The commit that stands: this attempt's, or the one that was there before.

        Raises:
            SweptError: `gc` took the attempt for dead; nothing of it is left.
        """
        commit = Commit(
            chunk_id=self._chunk_id,
            spec_id=self._chunk.spec_id,
            run_id=self._run_id,
            generation=self._chunk.generation,
            attempt=self.name,
            masks=self._masks,
            parts=self._parts,
            **counts,
        )
        self._files.sync(self._folders)
        path = layout.commit_file(self._chunk_id)
        self._may_stand = True
        try:
            created = self._files.commit(self._ticket, path, commit.to_json().encode())
        except SweptError:
            self._may_stand = False
            raise
        if not created:
            commit = read_commit(self._files, self._chunk_id)
            self._may_stand = commit.attempt == self.name
            self.discard()
        publish(self._files, commit)
        return commit

    def discard(self) -> None:
        """Remove what this attempt wrote, unless a commit may refer to it.

        When creating the commit fails halfway, nobody knows whether it stands; then the files
        stay, as those of a killed process do.
        """
        if self._may_stand:
            return
        self._files.remove(self._ticket)
        self._files.remove(self.group)
        self._files.remove(self._staging)


def publish(files: Files, commit: Commit) -> None:
    """Give the parts of a committed chunk their final names; any number of times.

    The images are published last: whoever sees them finds the objects and the masks.
    """
    if not files.exists(layout.published_part(commit.chunk_id, layout.TABLES[-1])):
        # The commit may be another's, who was killed before it was on stable storage.
        files.sync((layout.COMMITS,))
        for table in layout.TABLES:
            staged = layout.staged_part(commit.chunk_id, commit.attempt, table)
            files.publish(staged, layout.published_part(commit.chunk_id, table))
            files.sync((table,))  # no power cut shows a later one without it
    # The same goes for names that are there; until they are safe, the staged ones are needed.
    files.sync(layout.TABLES)
    files.remove(layout.staging_folder(commit.chunk_id, commit.attempt))


def committed(files: Files) -> Iterator[str]:
    """The ids of all chunks that are done."""
    for name in files.names(layout.COMMITS):
        yield name.removesuffix(".json")


def read_commit(files: Files, chunk_id: str) -> Commit:
    """A chunk's manifest.

    Raises:
        StoreError: it cannot be read as one.
    """
    path = layout.commit_file(chunk_id)
    try:
        return Commit.from_json(files.read(path).decode())
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise StoreError(f"{path}: not a readable commit: {error}; run `segpipe fsck`") from error


def read_crumbs(files: Files, chunk_id: str, label: str) -> list[int]:
    """Indices of the images that attempts with this label were working on when they stopped."""
    prefix = f"{chunk_id}.{label}"
    return [
        int(files.read(f"{layout.STAGING}/{name}/crumb"))
        for name in files.names(layout.STAGING)
        if name.startswith(prefix) and files.exists(f"{layout.STAGING}/{name}/crumb")
    ]
