"""A copy that `backup-store.sh` makes while runs write to the store is a whole store of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from segpipe.pipeline import process_chunk
from segpipe.records import Chunk
from segpipe.store import create_store
from segpipe.store.commits import committed
from segpipe.store.files import LocalFiles
from segpipe.store.fsck import check_store
from tests.deploy.conftest import DEPLOY
from tests.generated import ThresholdSegmenter, chunk_of, make_collection

RSYNC = shutil.which("rsync")
PASSES = 3
"""Times that the script calls rsync."""

pytestmark = pytest.mark.skipif(RSYNC is None, reason="rsync is not installed")


@pytest.fixture(scope="module")
def chunks(tmp_path_factory: pytest.TempPathFactory) -> list[Chunk]:
    folders = [tmp_path_factory.mktemp(f"images-{n}") for n in range(PASSES + 1)]
    return [chunk_of(make_collection(folder, 2)) for folder in folders]


def back_up(files: LocalFiles, folder: Path, meanwhile: Sequence[Chunk] = ()) -> Path:
    """The copy; before each pass of rsync another of the chunks is processed and committed."""
    ask, go = folder.with_name("ask"), folder.with_name("go")
    programs = folder.with_name("programs")
    variables = dict(os.environ)
    if meanwhile:
        programs.mkdir()
        os.mkfifo(ask)
        os.mkfifo(go)
        waiting = programs / "rsync"
        waiting.write_text(f'#!/bin/sh\necho >{ask}; read -r _ <{go}; exec {RSYNC} "$@"\n')
        waiting.chmod(0o755)
        variables["PATH"] = f"{programs}{os.pathsep}{variables['PATH']}"
    command = [DEPLOY / "backup" / "backup-store.sh", files.root, folder]
    with subprocess.Popen(command, env=variables, stdout=subprocess.PIPE, text=True) as script:
        for chunk in meanwhile:
            ask.read_text()
            process_chunk(chunk, ThresholdSegmenter(), files, "meanwhile")
            go.write_text("\n")
        said, _ = script.communicate(timeout=60)
    assert script.returncode == 0
    return Path(said.strip())


def test_a_copy_of_a_store_that_is_written_to_is_whole(tmp_path: Path, chunks: list[Chunk]) -> None:
    files = create_store(tmp_path / "store")
    process_chunk(chunks[0], ThresholdSegmenter(), files, "before")
    copy = back_up(files, tmp_path / "backup", chunks[1:])
    assert list(check_store(LocalFiles(copy))) == []
    # What was committed before the script took the commits is in it, and nothing later.
    assert set(committed(LocalFiles(copy))) == {chunk.chunk_id for chunk in chunks[:2]}
    assert list(check_store(files)) == []


def test_an_unchanged_file_is_kept_once(tmp_path: Path, chunks: list[Chunk]) -> None:
    files = create_store(tmp_path / "store")
    process_chunk(chunks[0], ThresholdSegmenter(), files, "run")
    first = back_up(files, tmp_path / "backup")
    first = first.rename(first.with_name("20200101T000000Z"))
    process_chunk(chunks[1], ThresholdSegmenter(), files, "run")
    second = back_up(files, tmp_path / "backup")
    (commit,) = (first / "commits").iterdir()
    assert (second / "commits" / commit.name).samefile(commit)
    assert list(check_store(LocalFiles(second))) == []
    assert len(set(committed(LocalFiles(second)))) == 2
