"""A store in a bucket is looked at by the same commands, with the same answers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from segpipe.errors import SpecError
from segpipe.pipeline import process_chunk
from segpipe.query import query
from segpipe.store import Snapshot, create_store, open_store
from segpipe.store.digest import logical_digest
from segpipe.store.fsck import check_store
from tests.generated import ThresholdSegmenter, chunk_of, make_collection
from tests.integration.conftest import Command
from tests.parts import Parts, chunk_in, keep, scene
from tests.s3 import new_address, reached_at


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_collection(tmp_path_factory.mktemp("images"), 8, broken=[5])


@pytest.fixture(scope="module")
def store(images: Path, s3_endpoint: str) -> Iterator[str]:
    """Address of a store in a bucket."""
    with reached_at(s3_endpoint):
        address = new_address()
        process_chunk(chunk_of(images), ThresholdSegmenter(), create_store(address), "run")
        yield address


@pytest.fixture(scope="module")
def local(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same in a folder."""
    folder = tmp_path_factory.mktemp("local")
    process_chunk(chunk_of(images), ThresholdSegmenter(), create_store(folder), "run")
    return folder


def test_its_content_is_that_of_a_folder(store: str, local: Path) -> None:
    assert logical_digest(open_store(store)) == logical_digest(open_store(local))


def test_a_large_image_is_what_it_is_in_a_folder(s3_endpoint: str, tmp_path: Path) -> None:
    keep(tmp_path, scene(1, (260, 300), 20))
    chunk = chunk_in(tmp_path, Parts())
    here = create_store(tmp_path / "here")
    process_chunk(chunk, Parts(), here, "run")
    with reached_at(s3_endpoint):
        there = create_store(new_address())
        process_chunk(chunk, Parts(), there, "run")
        assert logical_digest(Snapshot(there)) == logical_digest(Snapshot(here))
        assert not list(there.names("units"))
        assert not list(check_store(there))


@pytest.mark.parametrize(
    "sql",
    [
        "DESCRIBE images",
        "DESCRIBE latest_objects",
        "SELECT path, status, reason, n_objects FROM latest_images ORDER BY path",
        "SELECT image_id, label, area, score FROM objects WHERE area > 20 ORDER BY ALL",
        "SELECT count(*) FROM objects JOIN images USING (image_id, run_id)",
    ],
)
def test_a_query_has_the_same_answer(store: str, local: Path, sql: str) -> None:
    there, here = (query(open_store(place), sql) for place in (store, local))
    assert there.num_rows > 0
    assert there.equals(here)


def test_a_query_reaches_nothing_else(store: str, tmp_path: Path) -> None:
    secret = tmp_path / "secret.csv"
    secret.write_text("word\nhunter2\n")
    for source in (f"'{secret}'", f"read_csv('{secret}')", "read_text('/etc/passwd')"):
        with pytest.raises(SpecError):
            query(open_store(store), f"SELECT * FROM {source}")


def test_an_empty_store_has_empty_tables(s3: str) -> None:
    snapshot = Snapshot(create_store(new_address()))
    assert query(snapshot, "SELECT count(*) FROM latest_objects").to_pydict() == {
        "count_star()": [0]
    }


def test_all_that_looks_at_a_store(segpipe: Command, store: str, tmp_path: Path) -> None:
    code, out, _ = segpipe("show", store, "--json")
    assert (code, json.loads(out)["chunks"]) == (0, 1)
    code, out, _ = segpipe("fsck", store)
    assert (code, out) == (0, "all is well\n")
    code, out, _ = segpipe("query", store, "SELECT count(*) AS n FROM images", "--format", "csv")
    assert (code, out.split()) == (0, ["n", "8"])
    code, out, _ = segpipe("export", store, "--format", "png", "--out", tmp_path, "--json")
    assert (code, json.loads(out)["images"]) == (0, 7)
    code, out, _ = segpipe("eval", store, "--truth", tmp_path, "--json")
    assert (code, json.loads(out)["pooled"]["ap"]) == (0, 1)
    code, _, _ = segpipe("overlay", store, "image-001.png", "--out", tmp_path / "overlay.png")
    assert code == 0
    assert (tmp_path / "overlay.png").read_bytes().startswith(b"\x89PNG")


def test_all_that_keeps_a_store(segpipe: Command, images: Path, s3: str) -> None:
    address = new_address()
    files = create_store(address)
    process_chunk(chunk_of(images), ThresholdSegmenter(), files, "run")
    before = logical_digest(open_store(address))

    files.write("staging/dead.attempt/ticket", b"{}")
    files.write("masks.zarr/dead.attempt/label_image/c/0/0/0", b"")
    _, out, _ = segpipe("gc", address, "--grace-hours", "0", "--delete")
    assert "1 of 1 removed" in out
    assert not files.exists("masks.zarr/dead.attempt")

    _, out, _ = segpipe("compact", address)
    assert "1 chunks in 1 parts" in out
    assert open_store(address).parts("images")[0].startswith("compacted/")
    assert logical_digest(open_store(address)) == before
    assert segpipe("fsck", address)[:2] == (0, "all is well\n")
