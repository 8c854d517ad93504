"""A run that is killed inside a large image goes on inside it, and comes to the same result."""

from __future__ import annotations

import multiprocessing
import signal
from pathlib import Path

import numpy as np
import pytest

from segpipe.pipeline import process_chunk
from segpipe.records import Chunk
from segpipe.store import Snapshot, create_store
from segpipe.store.commits import committed
from segpipe.store.digest import logical_digest
from segpipe.store.fsck import check_store
from segpipe.store.gc import collect, find_garbage
from segpipe.store.recover import recover
from tests.faults.injected import KillAt, faulty
from tests.parts import Parts, chunk_in, keep, scene

STEP = 10
"""Of the steps of a run, one in so many is tried; objects and classes take others."""

SPAWN = multiprocessing.get_context("forkserver")
SPAWN.set_forkserver_preload(["tests.faults.warm"])


@pytest.fixture(scope="module", params=[False, True], ids=["instances", "classes"])
def semantic(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture(scope="module")
def chunk(tmp_path_factory: pytest.TempPathFactory, semantic: bool) -> Chunk:
    folder = tmp_path_factory.mktemp("killed")
    keep(folder, scene(1, (200, 260), 20))
    keep(folder, scene(2, (50, 40), 20), "small.tif")
    return chunk_in(folder, Parts(semantic))


def killed_run(root: Path, chunk: Chunk, semantic: bool, k: int) -> None:
    process_chunk(chunk, Parts(semantic), faulty(root, KillAt(k)), "killed")


def test_killed_and_resumed(tmp_path: Path, chunk: Chunk, semantic: bool) -> None:
    undisturbed = create_store(tmp_path / "undisturbed")
    whole = Parts(semantic)
    process_chunk(chunk, whole, undisturbed, "run")
    expected, looks = logical_digest(Snapshot(undisturbed)), len(whole.views)
    spared = []
    for k in range(STEP // 2 if semantic else 0, 300, STEP):
        files = create_store(tmp_path / f"store-{k}")
        process = SPAWN.Process(target=killed_run, args=(files.root, chunk, semantic, k))
        process.start()
        process.join()
        assert list(check_store(files)) == []
        if process.exitcode == 0:
            break
        assert process.exitcode == -signal.SIGKILL
        recover(files)
        again = Parts(semantic)
        if chunk.chunk_id not in committed(files):
            process_chunk(chunk, again, files, "resumed")
        spared.append(looks - len(again.views))
        assert list(check_store(files)) == []
        assert logical_digest(Snapshot(files)) == expected
        for garbage in find_garbage(files, grace_seconds=-1):
            collect(files, garbage)
        assert not list(files.names("units"))
        assert list(check_store(files)) == []
    else:
        pytest.fail("the run has more steps than were tried")
    assert np.all(np.diff(spared) >= 0), "what was looked at before the kill is not looked at again"
    assert len(set(spared)) > 4
