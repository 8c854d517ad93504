"""Kill an export: what lies under a name is whole, the old one or the new one."""

from __future__ import annotations

import errno
import multiprocessing
import os
import signal
from pathlib import Path, PurePosixPath

import pytest

from segpipe.errors import SpecError
from segpipe.export.files import write_folder_below
from tests.faults.injected import FaultyDisk, KillAt

# A fresh process each time, forked from a clean one that has the imports done.
SPAWN = multiprocessing.get_context("forkserver")
SPAWN.set_forkserver_preload(["tests.faults.warm"])

NAME = PurePosixPath("a", "one.ome.zarr")
Content = dict[str, str]
OLD: Content = {"zarr.json": "old", "0/c/0": "old", "0/gone": "old"}
NEW: Content = {"zarr.json": "new", "0/c/0": "new", "0/c/1": "new"}


class WithoutExchange(FaultyDisk):
    """A file system that cannot exchange two names."""

    def exchange(self, one: Path, other: Path) -> None:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), str(one))


def replace(out: Path, disk: type[FaultyDisk], content: Content, k: int) -> None:
    """Write the folder, and be killed at the k-th step of it."""
    kill = KillAt(k)

    def write(folder: Path) -> None:
        for name, text in content.items():
            kill("write", name)
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)

    write_folder_below(out, NAME, write, disk(kill))


def content_of(folder: Path) -> Content:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_text() for path in files}


@pytest.mark.parametrize("disk", [FaultyDisk, WithoutExchange])
def test_a_folder_is_replaced_whole_or_not_at_all(tmp_path: Path, disk: type[FaultyDisk]) -> None:
    seen = []
    for k in range(50):
        out = tmp_path / str(k)
        replace(out, disk, OLD, k=1000)
        process = SPAWN.Process(target=replace, args=(out, disk, NEW, k))
        process.start()
        process.join()
        seen.append(content_of(out / NAME))
        replace(out, disk, NEW if process.exitcode == 0 else OLD, k=1000)
        if process.exitcode == 0:
            break
        assert process.exitcode == -signal.SIGKILL
        assert content_of(out / NAME) == OLD
    assert seen[0] == OLD
    assert seen[-1] == NEW
    assert k > len(NEW)
    assert [path.name for path in (out / NAME).parent.iterdir()] == [NAME.name]
    without = [content for content in seen if content not in (OLD, NEW)]
    # Between two renames the name is free, and the old folder beside it.
    assert without == ([] if disk is FaultyDisk else [{}, {}])


def test_a_folder_that_was_moved_aside_gets_its_name_back(tmp_path: Path) -> None:
    replace(tmp_path, FaultyDisk, OLD, k=1000)
    place = tmp_path / NAME
    place.rename(place.with_name(f".{place.name}.old"))

    def fail(_: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(SpecError, match="No space left"):
        write_folder_below(tmp_path, NAME, fail)
    assert content_of(place) == OLD


def test_a_file_with_the_name_of_a_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / NAME).parent.mkdir()
    (tmp_path / NAME).write_text("mine")
    with pytest.raises(SpecError, match=r"one.ome.zarr.*move it away"):
        replace(tmp_path, FaultyDisk, NEW, k=1000)
    assert [path.name for path in (tmp_path / "a").iterdir()] == [NAME.name]
    assert (tmp_path / NAME).read_text() == "mine"
