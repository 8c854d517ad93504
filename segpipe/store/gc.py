"""Clear away what runs that died left behind: attempts that never committed, and copies.

An attempt is taken for dead when it is old and its run has no live lease. Should that be wrong, it
costs work and nothing else: its ticket goes first, and without it the attempt cannot commit.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain

from segpipe.store import layout
from segpipe.store.commits import read_commit
from segpipe.store.compaction import compactions
from segpipe.store.files import Files
from segpipe.store.leases import is_live, live_runs, storage_time

GRACE_SECONDS = 24 * 3600.0


@dataclass(frozen=True, slots=True)
class Garbage:
    """Something that nothing refers to.

    Attributes:
        name: what it is, in a few words.
        paths: relative to the store, to be removed in this order; without the first one, what is
            still at work cannot be committed.
        size: in bytes.
        seconds: since it was written to last.
    """

    name: str
    paths: tuple[str, ...]
    size: int
    seconds: float


def find_garbage(files: Files, grace_seconds: float = GRACE_SECONDS) -> Iterator[Garbage]:
    """What may be removed: unreferenced, not touched for `grace_seconds`, of no live run."""
    now = storage_time(files)
    live = live_runs(files, now)
    left = (
        _attempts(files, live),
        _compactions(files),
        _units(files),
        _plans(files, live),
        _temporary(files),
    )
    yield from _untouched(files, chain.from_iterable(left), now, grace_seconds)


def find_old_compactions(files: Files, grace_seconds: float = GRACE_SECONDS) -> Iterator[Garbage]:
    """Of `find_garbage` the compactions alone: to find them no commit is read."""
    yield from _untouched(files, _compactions(files), storage_time(files), grace_seconds)


def _untouched(
    files: Files, left: Iterable[tuple[str, tuple[str, ...]]], now: float, grace_seconds: float
) -> Iterator[Garbage]:
    for name, paths in left:
        there = [path for path in paths if files.exists(path)]
        try:
            seconds = now - max(files.modified(path) for path in there)
            inside = {path for path in there for outer in there if path.startswith(f"{outer}/")}
            size = sum(files.size(path) for path in there if path not in inside)
        except (FileNotFoundError, ValueError):
            continue  # it went away by itself: somebody is at work
        if seconds >= grace_seconds:
            yield Garbage(name, paths, size, seconds)


def collect(files: Files, garbage: Garbage) -> bool:
    """Remove it, unless it has come to be referred to since it was found.

    Returns:
        Whether it was removed.
    """
    first, *rest = garbage.paths
    files.remove(first)
    if first.startswith(layout.COMPACTED):
        files.sync([layout.COMPACTED])  # no power cut shows a manifest without its files
    if any(_is_referenced(files, path) for path in rest):
        return False
    for path in rest:
        files.remove(path)
    return True


def _attempts(files: Files, live: set[str]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Attempts, by their folders, that are not the one that their chunk's commit names."""
    names = {
        name
        for folder in (layout.STAGING, layout.MASKS)
        for name in files.names(folder)
        if name != "zarr.json"
    }
    for name in sorted(names):
        chunk_id, _, attempt = name.partition(".")
        ticket = layout.ticket(chunk_id, attempt)
        masks, staging = layout.masks_group(chunk_id, attempt), f"{layout.STAGING}/{name}"
        if not _is_referenced(files, masks) and not _is_of(files, ticket, live):
            yield f"unfinished attempt at chunk {chunk_id}", (ticket, masks, staging)


def _compactions(files: Files) -> Iterator[tuple[str, tuple[str, ...]]]:
    """All but the newest, and those that were never finished."""
    standing = list(compactions(files))
    for old in standing[:-1]:
        paths = layout.compaction_file(old.number), old.folder
        yield f"compaction {old.number}, replaced by {standing[-1].number}", paths
    folders = {compaction.folder for compaction in standing}
    for name in sorted(files.names(layout.COMPACTED)):
        folder = f"{layout.COMPACTED}/{name}"
        if not name.endswith(".json") and folder not in folders:
            yield "unfinished compaction", (f"{folder}/ticket", folder)


def _units(files: Files) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Parts of images whose chunk was not committed since, or by others."""
    for key in sorted(files.names(layout.UNITS)):
        yield "parts of a large image that are kept no longer", (layout.units_folder(key),)


def _plans(files: Files, live: set[str]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Plans of partitions that were never begun: their night ended before."""
    for run_id in sorted(files.names(layout.RUNS)):
        record = layout.run_file(run_id, "record.json")
        if not is_live(run_id, live) and not files.exists(record):
            yield "plan of a partition that was never begun", (layout.run_folder(run_id),)


def _temporary(files: Files) -> Iterator[tuple[str, tuple[str, ...]]]:
    runs = (f"{layout.RUNS}/{run}" for run in sorted(files.names(layout.RUNS)))
    flat = ("", layout.COMMITS, layout.COMPACTED, layout.FORGETTING, layout.LEASES)
    for folder in (*flat, *runs):
        for name in sorted(files.temporary(folder)):
            yield "unfinished file", (f"{folder}/{name}".lstrip("/"),)


def _is_referenced(files: Files, folder: str) -> bool:
    """Whether a commit, or a compaction's manifest, names this folder."""
    where, _, name = folder.rpartition("/")
    if where == layout.COMPACTED:
        return any(compaction.folder == folder for compaction in compactions(files))
    chunk_id, _, attempt = name.partition(".")
    path = layout.commit_file(chunk_id)
    return files.exists(path) and read_commit(files, chunk_id).attempt == attempt


def _is_of(files: Files, ticket: str, live: set[str]) -> bool:
    """Whether an attempt belongs to a live run; its ticket may be gone or half-written."""
    try:
        return is_live(json.loads(files.read(ticket))["run_id"], live)
    except (OSError, ValueError, KeyError):
        return False
