"""Remove the results of one run, and keep that there were some.

The chunks that go are written down first: from then on no snapshot shows them. Then, chunk by
chunk, the published parts go, the commit, the masks; then the page of its night, which shows its
images; last, a tombstone stays in the run's folder beside its record. Whatever kills it in between,
`finish_forgetting` goes on.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from segpipe.errors import SpecError
from segpipe.store import layout
from segpipe.store.commits import committed, read_commit
from segpipe.store.compaction import drop_compactions
from segpipe.store.files import Files
from segpipe.store.leases import is_live, live_runs
from segpipe.store.reports import remove_reports
from segpipe.store.sums import seal
from segpipe.store.tombstones import TOMBSTONE, Tombstone, is_forgotten, pending


def plan_forgetting(files: Files, run_id: str, reason: str = "") -> Tombstone:
    """What `forget` would remove.

    Raises:
        SpecError: there is no such run, it is still at work, or it was forgotten before.
    """
    if run_id not in set(files.names(layout.RUNS)):
        raise SpecError(f"no run {run_id!r} in this store; `segpipe show` lists them")
    if is_live(run_id, live_runs(files)):
        raise SpecError(f"run {run_id} is still at work; stop it first")
    if is_forgotten(files, run_id):
        raise SpecError(f"run {run_id} was forgotten before; see {TOMBSTONE} in its folder")
    commits = [
        commit
        for commit in (read_commit(files, chunk_id) for chunk_id in committed(files))
        if commit.run_id == run_id
    ]
    return Tombstone(
        run_id=run_id,
        asked=datetime.now(UTC).isoformat(timespec="seconds"),
        reason=reason,
        images=sum(commit.n_images for commit in commits),
        objects=sum(commit.n_objects for commit in commits),
        chunks={commit.chunk_id: commit.attempt for commit in commits},
    )


def forget(files: Files, tombstone: Tombstone) -> None:
    """Remove what `plan_forgetting` said."""
    files.create(layout.forgetting_file(tombstone.run_id), tombstone.to_json())
    finish_forgetting(files)


def finish_forgetting(files: Files) -> None:
    """Go on with all forgetting that was begun; any number of times, by several at once."""
    for tombstone in pending(files):
        drop_compactions(files, tombstone.chunks.keys())
        for chunk_id, attempt in tombstone.chunks.items():
            _unpublish(files, chunk_id, attempt)
        _sync(files, layout.TABLES)
        for chunk_id, attempt in tombstone.chunks.items():
            _remove_chunk(files, chunk_id, attempt)
        _sync(files, (layout.COMMITS, layout.MASKS))
        remove_reports(files, tombstone.run_id)
        files.create(layout.run_file(tombstone.run_id, TOMBSTONE), tombstone.to_json())
        seal(files, tombstone.run_id)
        files.remove(layout.forgetting_file(tombstone.run_id))
        _sync(files, (layout.FORGETTING,))


def _unpublish(files: Files, chunk_id: str, attempt: str) -> None:
    """The parts go, and for good, before the commit: while it stands, nobody commits anew."""
    if _stands(files, chunk_id, attempt):
        for table in reversed(layout.TABLES):
            files.remove(layout.published_part(chunk_id, table))


def _remove_chunk(files: Files, chunk_id: str, attempt: str) -> None:
    if _stands(files, chunk_id, attempt):
        files.remove(layout.commit_file(chunk_id))
    files.remove(layout.masks_group(chunk_id, attempt))
    files.remove(layout.staging_folder(chunk_id, attempt))


def _stands(files: Files, chunk_id: str, attempt: str) -> bool:
    path = layout.commit_file(chunk_id)
    return files.exists(path) and read_commit(files, chunk_id).attempt == attempt


def _sync(files: Files, folders: Iterable[str]) -> None:
    files.sync(folder for folder in folders if files.exists(folder))
