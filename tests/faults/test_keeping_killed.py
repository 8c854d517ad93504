"""Kill the keeping of a store at every step: nothing is lost, and the next one goes on."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from segpipe.pipeline import process_chunk
from segpipe.records import Chunk
from segpipe.store import Snapshot, create_store
from segpipe.store.commits import Attempt
from segpipe.store.compaction import compact
from segpipe.store.digest import logical_digest
from segpipe.store.files import LocalFiles
from segpipe.store.forget import forget, plan_forgetting
from segpipe.store.fsck import check_store
from segpipe.store.gc import collect, find_garbage
from segpipe.store.recover import recover
from tests.faults.injected import DeadAt, Killed, faulty
from tests.generated import SPEC, ThresholdSegmenter, make_collection, refs


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs of two chunks, an old compaction, and an attempt that died."""
    listing = refs(make_collection(tmp_path_factory.mktemp("images"), 4, broken=[2]))
    files = create_store(tmp_path_factory.mktemp("store"))
    for number, part in enumerate((listing[:2], listing[2:])):
        for ref in part:
            chunk = Chunk(SPEC.spec_id, (ref,))
            process_chunk(chunk, ThresholdSegmenter(), files, f"run-{number}")
        files.write(f"runs/run-{number}/record.json", b"{}")
        compact(files)
    Attempt(files, Chunk(SPEC.spec_id, listing), "dead").leave_crumb(0)
    return files.root


def do_compact(files: LocalFiles) -> None:
    recover(files)
    compact(files)


def do_gc(files: LocalFiles) -> None:
    recover(files)
    for garbage in list(find_garbage(files, grace_seconds=0)):
        collect(files, garbage)


def do_forget(files: LocalFiles) -> None:
    recover(files)
    forget(files, plan_forgetting(files, "run-0"))


def do_recover(files: LocalFiles) -> None:
    recover(files)


def killed_everywhere(
    store: Path, folder: Path, work: Callable[[LocalFiles], None]
) -> list[LocalFiles]:
    """Copies of the store, the k-th of them after a kill at the k-th step of `work`."""
    found = []
    for k in range(500):
        root = folder / str(k)
        shutil.copytree(store, root)
        found.append(LocalFiles(root))
        try:
            work(faulty(root, DeadAt(k)))
        except Killed:
            continue
        assert k > 10
        return found
    raise AssertionError("it never came to its end")


@pytest.mark.parametrize("work", [do_compact, do_gc])
def test_copies_and_garbage_change_no_answer(
    store: Path, tmp_path: Path, work: Callable[[LocalFiles], None]
) -> None:
    expected = logical_digest(Snapshot(LocalFiles(store)))
    for files in killed_everywhere(store, tmp_path, work):
        assert list(check_store(files)) == []
        assert logical_digest(Snapshot(files)) == expected
        work(files)
        do_gc(files)
        assert list(check_store(files)) == []
        assert list(find_garbage(files, grace_seconds=0)) == []
        assert logical_digest(Snapshot(files)) == expected


def test_a_run_is_forgotten_whole_or_not_at_all(store: Path, tmp_path: Path) -> None:
    def runs(files: LocalFiles) -> list[str]:
        return sorted(row["run_id"] for row in Snapshot(files).image_rows())

    both, one = ["run-0", "run-0", "run-1", "run-1"], ["run-1", "run-1"]
    seen = []
    for files in killed_everywhere(store, tmp_path, do_forget):
        assert list(check_store(files)) == []
        seen.append(runs(files))
        recover(files)
        assert runs(files) == seen[-1]
        if seen[-1] == both:
            do_forget(files)
        assert runs(files) == one
        assert list(check_store(files)) == []
        do_gc(files)
        assert len(list(files.names("masks.zarr"))) == 3  # of the run that stays, and zarr.json
    assert seen == sorted(seen, key=len, reverse=True)
    assert {len(found) for found in seen} == {4, 2}
