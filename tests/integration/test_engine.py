"""Dask for real: worker processes, and an image that kills them."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cloudpickle
import pytest
from distributed import Client

import tests.generated
from segpipe.engine import Work, equipped, local_cluster, run_chunks
from segpipe.errors import BudgetError, EngineError
from segpipe.pipeline import process_chunk
from segpipe.spec import SegmentSpec
from segpipe.store import Snapshot, create_store
from segpipe.store.digest import logical_digest
from segpipe.store.fsck import check_store
from tests.generated import (
    SPEC,
    ThresholdSegmenter,
    all_of,
    chunk_of,
    make_collection,
    poison,
    refs,
)

# The workers do not have the tests; the segmenter travels to them whole.
cloudpickle.register_pickle_by_value(tests.generated)
cloudpickle.register_pickle_by_value(sys.modules[__name__])


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with local_cluster(1) as client:
        yield client


def segment(client: Client, images: Path, store: Path, size: int, load: Any = None) -> Snapshot:
    files = create_store(store)
    work = Work("run", str(store), SPEC, store.with_name("births"), 1, load or load_and_tell)
    chunks = all_of(size, refs(images))
    with equipped(client, work) as staff:
        commits = list(run_chunks(staff, chunks))
    assert sum(commit.n_images for commit in commits) == len(refs(images))
    return Snapshot(files)


def test_workers_give_what_one_process_gives(client: Client, tmp_path: Path) -> None:
    images = make_collection(tmp_path / "images", 20, broken=[5])
    files = create_store(tmp_path / "here")
    process_chunk(chunk_of(images), ThresholdSegmenter(), files, "run")
    there = segment(client, images, tmp_path / "there", 3)
    assert logical_digest(there) == logical_digest(Snapshot(files))


@pytest.mark.parametrize("position", [0, 3, 7])
def test_a_poison_image_costs_two_workers_and_itself(
    client: Client, tmp_path: Path, position: int
) -> None:
    images = make_collection(tmp_path / "images", 8)
    victim = Path(sorted(images.rglob("*.png"))[position])
    poison(victim)
    snapshot = segment(client, images, tmp_path / "store", 8)
    rows = {row["path"]: row for row in snapshot.image_rows()}
    failed = {path: row["reason"] for path, row in rows.items() if row["status"] == "failed"}
    assert failed == {str(victim.relative_to(images)): "worker_died"}
    assert list(check_store(snapshot.files)) == []
    births = snapshot.files.root.with_name("births").read_text().split()
    assert len(births) == 3, "the first worker and two more"


def test_workers_that_die_whatever_they_do_stop_the_run(client: Client, tmp_path: Path) -> None:
    images = make_collection(tmp_path / "images", 2)
    with pytest.raises(EngineError, match="workers died on chunk"):
        segment(client, images, tmp_path / "store", 2, load_and_die)


def test_a_worker_that_cannot_hold_one_image_does_not_begin(client: Client, tmp_path: Path) -> None:
    images = make_collection(tmp_path / "images", 2)
    files = create_store(tmp_path / "store")
    births = tmp_path / "births"
    work = Work("run", str(files.root), SPEC, births, 1, load_and_tell, memory=300_000_000)
    with (
        equipped(client, work) as staff,
        pytest.raises(BudgetError, match=r"needs about 0\.\d\d GB .* may use 0\.30 GB"),
    ):
        list(run_chunks(staff, [chunk_of(images)]))
    assert list(Snapshot(files).image_rows()) == []


def test_workers_load_their_model_ahead_of_the_first_chunk(client: Client, tmp_path: Path) -> None:
    files = create_store(tmp_path / "store")
    births = tmp_path / "births"
    os.mkfifo(births)  # opening it waits for the other side
    with equipped(client, Work("run", str(files.root), SPEC, births, 1, load_and_tell)):
        assert births.read_text().split()


def load_and_die(spec: SegmentSpec, weights: Path | None, threads: int | None) -> Any:
    os.kill(os.getpid(), signal.SIGKILL)


def load_and_tell(spec: SegmentSpec, weights: Path | None, threads: int | None) -> Any:
    """Each worker process loads the model once; `weights` says where to write that down."""
    assert weights is not None
    with weights.open("a") as births:
        births.write(f"{os.getpid()}\n")
    return ThresholdSegmenter(spec)
