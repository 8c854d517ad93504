"""Kill an export: what lies under a name is whole, the old one or the new one."""

from __future__ import annotations

import errno
import multiprocessing
import os
import shutil
import signal
import sys
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from segpipe.errors import SpecError
from segpipe.export.files import write_folder_below
from segpipe.store import open_store
from tests.faults.injected import FaultyDisk, KillAt
from tests.unit.test_export import found, make_store, squares
from tests.unit.test_sharing import FORMATS

# A fresh process each time, forked from a clean one that has the imports done.
SPAWN = multiprocessing.get_context("forkserver")
SPAWN.set_forkserver_preload(["tests.faults.warm", "tests.unit.test_sharing"])

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


# --- all formats --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The same images, with other objects in the second store; a name more and a name less."""
    folder = tmp_path_factory.mktemp("stores")
    for name, corner in (("old", (1, 1)), ("new", (10, 20))):
        images = {path: found(squares(corner)) for path in ("a/1.png", "b.png", f"{name}.png")}
        make_store(folder / name, images, pixels=folder / "images")
    return folder / "old", folder / "new"


def export(name: str, store: Path, out: Path, k: int) -> None:
    """Export, and be killed at the k-th time that something below `out` is touched."""
    snapshot = open_store(store)
    kill = KillAt(k)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event.startswith(("open", "os.", "shutil.")) and str(out) in str(arguments[0]):
            kill(event, "")

    sys.addaudithook(hook)
    FORMATS[name](snapshot, out)


def in_a_process(*arguments: Any) -> int | None:
    process = SPAWN.Process(target=export, args=arguments)
    process.start()
    process.join()
    return process.exitcode


def visible(out: Path) -> dict[str, dict[str, bytes]]:
    """What other programs find: a name, and the files that belong to it."""
    names: dict[str, dict[str, bytes]] = {}
    for path in sorted(out.rglob("*")):
        parts = path.relative_to(out).parts
        if path.is_dir() or any(part.startswith(".") for part in parts):
            continue
        whole = next((n for n, part in enumerate(parts, 1) if part.endswith(".ome.zarr")), None)
        names.setdefault("/".join(parts[:whole]), {})["/".join(parts)] = path.read_bytes()
    return names


@pytest.mark.parametrize("name", FORMATS)
def test_whatever_has_a_name_is_whole(name: str, stores: tuple[Path, Path], tmp_path: Path) -> None:
    old_store, new_store = stores
    assert in_a_process(name, old_store, tmp_path / "old", -1) == 0
    assert in_a_process(name, new_store, tmp_path / "new", -1) == 0
    old, new = visible(tmp_path / "old"), visible(tmp_path / "new")
    assert old != new
    kills, k, code = 0, 0, None
    while code != 0:
        out = tmp_path / "out"
        shutil.copytree(tmp_path / "old", out)
        code = in_a_process(name, new_store, out, k)
        assert code in (0, -signal.SIGKILL)
        now = visible(out)
        assert set(old) <= set(now) <= set(old) | set(new)
        for what, files in now.items():
            assert files in (old.get(what), new.get(what)), f"{what}, killed at {k}"
        # The next export does not mind what the kill left.
        if code != 0:
            assert in_a_process(name, new_store, out, -1) == 0
        assert visible(out) == old | new
        shutil.rmtree(out)
        kills, k = kills + 1, 2 * k + 1
    assert kills > 3
