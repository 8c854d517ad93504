"""Kill or fail a chunk at every step of its commit; then resume: nothing is lost or doubled."""

from __future__ import annotations

import errno
import multiprocessing
import signal
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from pathlib import Path

import pytest

from segpipe.pipeline import process_chunk
from segpipe.records import Chunk
from segpipe.store import Snapshot, create_store
from segpipe.store.commits import committed
from segpipe.store.digest import logical_digest
from segpipe.store.files import LocalFiles
from segpipe.store.fsck import check_store
from segpipe.store.recover import recover
from tests.faults.injected import FailAt, Fault, KillAt, Killed, faulty
from tests.generated import ThresholdSegmenter, chunk_of, make_collection

# A fresh process each time, forked from a clean one that has the imports done.
SPAWN = multiprocessing.get_context("forkserver")
SPAWN.set_forkserver_preload(["tests.faults.warm"])


@pytest.fixture(scope="module")
def chunk(tmp_path_factory: pytest.TempPathFactory) -> Chunk:
    return chunk_of(make_collection(tmp_path_factory.mktemp("images"), 5, broken=[2]))


@pytest.fixture(scope="module")
def expected(chunk: Chunk, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The digest of a run that nothing disturbed."""
    files = create_store(tmp_path_factory.mktemp("undisturbed"))
    process_chunk(chunk, ThresholdSegmenter(), files, "run")
    return logical_digest(Snapshot(files))


def killed_run(root: Path, chunk: Chunk, k: int) -> None:
    process_chunk(chunk, ThresholdSegmenter(), faulty(root, KillAt(k)), "killed")


def resume(files: LocalFiles, chunk: Chunk) -> None:
    """What the next run does: heal what was committed, then do what was not."""
    recover(files)
    if chunk.chunk_id not in committed(files):
        process_chunk(chunk, ThresholdSegmenter(), files, "resumed")


def assert_sound(files: LocalFiles, expected: str) -> None:
    assert list(check_store(files)) == []
    assert logical_digest(Snapshot(files)) == expected


def test_kill_at_every_step_then_resume(tmp_path: Path, chunk: Chunk, expected: str) -> None:
    for k in range(200):
        files = create_store(tmp_path / f"store-{k}")
        process = SPAWN.Process(target=killed_run, args=(files.root, chunk, k))
        process.start()
        process.join()
        # Whatever the moment: what is visible is whole.
        visible = Snapshot(files)
        assert set(visible.chunk_ids) <= set(committed(files))
        assert list(check_store(files)) == []
        if process.exitcode == 0:
            break
        assert process.exitcode == -signal.SIGKILL
        resume(files, chunk)
        assert_sound(files, expected)
    else:
        pytest.fail("the run never got to its end")
    assert k > 20
    assert_sound(files, expected)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EMFILE, errno.EACCES])
def test_fail_at_every_step_then_resume(
    tmp_path: Path, chunk: Chunk, expected: str, number: int
) -> None:
    for k in range(200):
        files = create_store(tmp_path / f"store-{k}")
        fault = FailAt(k, number)
        try:
            process_chunk(chunk, ThresholdSegmenter(), faulty(files.root, fault), "failed")
        except OSError as error:
            assert error.errno == number
        assert list(check_store(files)) == []
        if not fault.happened:
            break
        resume(files, chunk)
        assert_sound(files, expected)
    else:
        pytest.fail("the run never got to its end")
    assert k > 20


def test_the_loser_of_a_race_removes_only_its_own_files(
    tmp_path: Path, chunk: Chunk, expected: str
) -> None:
    files = create_store(tmp_path / "store")
    won = []

    def win_meanwhile(moment: str, path: str) -> None:
        if moment == "link" and not won:
            won.append(process_chunk(chunk, ThresholdSegmenter(), files, "winner"))

    stands = process_chunk(chunk, ThresholdSegmenter(), faulty(files.root, win_meanwhile), "loser")
    assert stands.attempt == won[0].attempt
    assert list(files.names("staging")) == []
    assert len(list(files.names("masks.zarr"))) == 2  # the winner's group, and zarr.json
    assert_sound(files, expected)


def test_two_may_publish_at_once(tmp_path: Path, chunk: Chunk, expected: str) -> None:
    """Another run heals the chunk between any two steps of its publication."""
    files = create_store(tmp_path / "store")

    def heal_meanwhile(moment: str, path: str) -> None:
        if moment in ("link", "after link"):
            recover(files)

    process_chunk(chunk, ThresholdSegmenter(), faulty(files.root, heal_meanwhile), "run")
    assert_sound(files, expected)


class LookedAt(LocalFiles):
    """Something happens before the k-th look at these files, and never again."""

    def __init__(self, root: Path, k: int, happens: Callable[[], object]) -> None:
        super().__init__(root)
        self.left = k
        self.happens = happens

    def read(self, path: str) -> bytes:
        self._look()
        return super().read(path)

    def names(self, folder: str) -> Iterator[str]:
        self._look()
        return super().names(folder)

    def exists(self, path: str) -> bool:
        self._look()
        return super().exists(path)

    def _look(self) -> None:
        if self.left == 0:
            self.happens()
        self.left -= 1


def dead_once_committed() -> Fault:
    """Nothing happens any more after a commit got its name."""
    seen: list[str] = []

    def fault(moment: str, path: str) -> None:
        if seen or (moment == "after link" and Path(path).parent.name == "commits"):
            seen.append(path)
            raise Killed

    return fault


@pytest.mark.parametrize("unpublished", [False, True], ids=["a whole chunk", "its publication"])
def test_a_check_is_not_misled_by_a_run_at_work(
    tmp_path: Path, chunk: Chunk, unpublished: bool
) -> None:
    """Before each of its looks in turn a chunk is done, or one that is done is published."""
    for k in count():
        files = create_store(tmp_path / f"store-{k}")
        happens = partial(process_chunk, chunk, ThresholdSegmenter(), files, "run")
        if unpublished:
            killed = faulty(files.root, dead_once_committed())
            with pytest.raises(Killed):
                process_chunk(chunk, ThresholdSegmenter(), killed, "killed")
            happens = partial(recover, files)
        watched = LookedAt(files.root, k, happens)
        assert list(check_store(watched)) == [], f"misled at look {k}"
        if watched.left >= 0:
            break
    assert k > 5


def test_any_flipped_bit_is_found(tmp_path: Path, chunk: Chunk) -> None:
    files = create_store(tmp_path / "store")
    process_chunk(chunk, ThresholdSegmenter(), files, "run")
    stored = [
        path
        for folder in ("masks.zarr", "objects", "images", "commits")
        for path in sorted((files.root / folder).rglob("*"))
        if path.is_file() and path.parent.name != "masks.zarr"
    ]
    assert len(stored) >= 6
    for path in stored:
        good = path.read_bytes()
        for place in {0, len(good) // 2, len(good) - 1}:
            path.unlink()
            path.write_bytes(good[:place] + bytes([good[place] ^ 4]) + good[place + 1 :])
            assert list(check_store(files)), f"bit flipped at {place} of {path.name}"
        path.write_bytes(good[:-1])
        assert list(check_store(files)), f"{path.name} cut short"
        path.unlink()
        assert list(check_store(files)), f"{path.name} gone"
        path.write_bytes(good)
    assert list(check_store(files)) == []
