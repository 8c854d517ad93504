"""Is everything what it was when it was committed? Every hash and every invariant, computed again.

Invariants (numbers as in the store format): I1 one commit per chunk, by its name; I2 a commit's
files exist with the hashes it names; I3 published parts are committed; I4 committed bytes never
change, which is I2 later; I5 one row per image of the chunk; I6 objects refer to images of their
chunk, and the label images hold exactly the objects' labels.
"""

from __future__ import annotations

import functools
import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from segpipe.errors import SegpipeError
from segpipe.records import Chunk, Commit, ImageRef, StoredFile
from segpipe.schema import arrow_schema
from segpipe.store import layout
from segpipe.store.commits import committed, read_commit
from segpipe.store.compaction import Compaction, compactions
from segpipe.store.files import Files
from segpipe.store.masks import MaskStack
from segpipe.store.pyramids import blocks
from segpipe.store.snapshot import Row, is_large
from segpipe.store.sums import sealed_files
from segpipe.store.tables import completed
from segpipe.store.tombstones import hidden_chunks


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that is not what it should be, and where."""

    path: str
    detail: str


def check_store(files: Files) -> Iterator[Problem]:
    """All problems of a store, found chunk by chunk; none means that all is well.

    Files of attempts that never committed are no problem: nothing refers to them. Runs may be at
    work meanwhile: what follows a commit is looked at before the commits are.
    """
    published = [(table, name) for table in layout.TABLES for name in files.names(table)]
    compacted = _read_compactions(files)
    hidden = hidden_chunks(files)
    chunks = set(committed(files)) - hidden
    for table, name in published:
        if name.removesuffix(".parquet") not in chunks | hidden:
            yield Problem(f"{table}/{name}", "published, but its chunk is not committed (I3)")
    for chunk_id in sorted(chunks):
        yield from check_chunk(files, chunk_id)
    if isinstance(compacted, Problem):
        yield compacted
    else:
        yield from _check_compactions(files, compacted, chunks, hidden)
    yield from _check_fixed(files)
    try:
        yield from check_files(files, dict(sealed_files(files)))
    except (ValueError, KeyError, TypeError) as error:
        yield Problem(layout.RUNS, f"a list of sums is damaged: {error}")


def _check_fixed(files: Files) -> Iterator[Problem]:
    """Files whose content is always the same."""
    versions = (*layout.OLDER_VERSIONS, layout.FORMAT_VERSION)
    markers = [layout.marker(version) for version in versions]
    markers += [layout.marker(raised_from=version) for version in layout.OLDER_VERSIONS]
    for path, contents in (
        (layout.MARKER, markers),
        (f"{layout.MASKS}/zarr.json", [layout.MASKS_ROOT]),
    ):
        try:
            if files.read(path) not in contents:
                yield Problem(path, "its bytes are not those that segpipe writes")
        except OSError as error:
            yield Problem(path, f"cannot be read: {error.strerror}")


def _read_compactions(files: Files) -> list[Compaction] | Problem:
    try:
        return list(compactions(files))
    except SegpipeError as error:
        return Problem(layout.COMPACTED, str(error))


def _check_compactions(
    files: Files, found: Sequence[Compaction], chunks: set[str], hidden: set[str]
) -> Iterator[Problem]:
    """Their bytes, and that they hold the rows of committed chunks, each once."""
    for compaction in found:
        if not hidden.isdisjoint(compaction.chunks):
            continue  # nobody reads it any more; it goes with them
        problems = list(check_files(files, compaction.files))
        yield from problems
        path = layout.compaction_file(compaction.number)
        if strangers := compaction.chunks - chunks:
            yield Problem(path, f"holds {len(strangers)} chunks that are not committed (I3)")
        if problems or strangers:
            continue
        try:
            commits = [read_commit(files, chunk_id) for chunk_id in compaction.chunks]
        except SegpipeError:
            continue  # a damaged commit is told of already
        for table, expected in (
            ("images", sum(commit.n_images for commit in commits)),
            ("objects", sum(commit.n_objects for commit in commits)),
        ):
            parts = [pq.ParquetFile(p, filesystem=files.arrow()) for p in compaction.parts(table)]
            rows = sum(part.metadata.num_rows for part in parts)
            if rows != expected:
                yield Problem(path, f"has {rows} rows of {table}, its chunks have {expected}")


def check_chunk(files: Files, chunk_id: str) -> Iterator[Problem]:
    """All problems of one committed chunk: of its manifest, its files and what they hold."""
    path = layout.commit_file(chunk_id)
    try:
        commit = read_commit(files, chunk_id)
    except SegpipeError as error:
        yield Problem(path, str(error))
        return
    if commit.chunk_id != chunk_id:
        yield Problem(path, f"says that it is of chunk {commit.chunk_id} (I1)")
    problems = list(check_files(files, commit.masks))
    parts: dict[str, bytes] = {}
    for table, stored in sorted(commit.parts.items()):
        try:
            place, parts[table] = _read_part(files, commit, table)
        except OSError as error:
            place = layout.published_part(chunk_id, table)
            problems.append(Problem(place, f"cannot be read: {error.strerror} (I2)"))
        else:
            problems += _check_bytes(place, parts[table], stored)
    yield from problems
    if not problems:
        yield from _check_rows(files, commit, parts)


def _read_part(files: Files, commit: Commit, table: str) -> tuple[str, bytes]:
    """A part and where it lies: published, or still staged if the run died in between.

    A run that is at work may publish it, and remove what was staged, between two looks.
    """
    published = layout.published_part(commit.chunk_id, table)
    staged = layout.staged_part(commit.chunk_id, commit.attempt, table)
    for path in (published, staged):
        with suppress(FileNotFoundError):
            return path, files.read(path)
    return published, files.read(published)


def check_files(files: Files, expected: Mapping[str, StoredFile]) -> Iterator[Problem]:
    """Those of the files, path -> size and hash, that are gone or have other bytes."""
    for path, stored in sorted(expected.items()):
        try:
            data = files.read(path)
        except OSError as error:
            yield Problem(path, f"cannot be read: {error.strerror} (I2)")
        else:
            yield from _check_bytes(path, data, stored)


def _check_bytes(path: str, data: bytes, stored: StoredFile) -> Iterator[Problem]:
    if len(data) != stored.size:
        yield Problem(path, f"has {len(data)} bytes, was committed with {stored.size} (I4)")
    elif hashlib.sha256(data).hexdigest() != stored.sha256:
        yield Problem(path, "its bytes are not those that were committed (I4)")


def _check_rows(files: Files, commit: Commit, parts: Mapping[str, bytes]) -> Iterator[Problem]:
    path = layout.commit_file(commit.chunk_id)
    images, objects = (
        completed(t, pq.read_table(pa.BufferReader(parts[t]))) for t in ("images", "objects")
    )
    for table, rows in (("images", images), ("objects", objects)):
        if not rows.schema.equals(arrow_schema(table)):
            where = layout.published_part(commit.chunk_id, table)
            yield Problem(where, "its columns are not those of the schema")
            return
    rows = images.to_pylist()
    refs = tuple(
        ImageRef(row["uri"], row["path"], row["size_bytes"], row["mtime_ns"], etag=row["etag"])
        for row in rows
    )
    if Chunk(commit.spec_id, refs, commit.generation).chunk_id != commit.chunk_id:
        yield Problem(path, "its images are not the ones that the chunk was made of (I5)")
    ok = [row for row in rows if row["status"] == "ok"]
    counted = len(rows), len(ok), objects.num_rows
    if counted != (commit.n_images, commit.n_ok, commit.n_objects):
        yield Problem(path, f"counts images, ok and objects otherwise than its tables: {counted}")
    labels: dict[str, dict[int, int]] = {row["image_id"]: {} for row in ok}
    columns = ("image_id", "label", "area_visible")
    for image_id, label, area in zip(*(objects[c].to_pylist() for c in columns), strict=True):
        if image_id not in labels:
            yield Problem(path, f"object {label} of image {image_id}, which has no result (I6)")
        else:
            labels[image_id][label] = area
    stack = functools.cache(functools.partial(MaskStack, files))
    for row in ok:
        yield from _check_labels(stack(row["mask_array"]), row, labels[row["image_id"]])


def _check_labels(stack: MaskStack, row: Row, areas: dict[int, int]) -> Iterator[Problem]:
    visible = _visible(stack, row, max(areas, default=0))
    if visible != {label: area for label, area in areas.items() if area}:
        where = row["mask_array"]
        where = where if is_large(row) else f"{where}[{row['mask_index']}]"
        yield Problem(where, f"its labels are not the objects of {row['path']} (I6)")
    if Counter(areas.keys()) != Counter(range(1, (row["n_objects"] or 0) + 1)):
        yield Problem(layout.commit_file(row["chunk_id"]), f"labels of {row['path']} are not 1..N")


def _visible(stack: MaskStack, row: Row, largest: int) -> dict[int, int] | None:
    """Label -> pixels that have it; None where there is a larger one than there should be."""
    shape = row["height"], row["width"]
    pixels = np.zeros(largest + 1, np.int64)
    for block in blocks(shape):
        found = stack.read(row["mask_index"], shape, block)
        if int(found.max()) > largest:
            return None
        pixels += np.bincount(found.ravel(), minlength=largest + 1)
    return {int(label): int(pixels[label]) for label in np.flatnonzero(pixels) if label}
