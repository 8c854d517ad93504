"""What is new, changed, done or missing is told from a listing and a store, whatever their size."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from segpipe.census import census, listing_batches
from segpipe.execution import planned
from segpipe.pipeline import process_chunk
from segpipe.planner import write_plans
from segpipe.query import query
from segpipe.readers import EmptyCollection, list_collection
from segpipe.records import ImageRef, partition_id
from segpipe.spec import RunSpec
from segpipe.store import Snapshot, create_store
from segpipe.store.files import LocalFiles
from segpipe.store.plans import read_plan
from tests.generated import SPEC, ThresholdSegmenter, make_collection, refs


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return make_collection(tmp_path / "images", 7, broken=[2])


@pytest.fixture
def files(tmp_path: Path) -> LocalFiles:
    files = create_store(tmp_path / "store")
    assert isinstance(files, LocalFiles)
    return files


class Night:
    """Nights of one collection, each planned and done."""

    def __init__(self, files: LocalFiles, images: Path) -> None:
        self.files = files
        self.images = images
        self.number = 0

    def __call__(self, **asked: bool) -> list[str]:
        """The paths that were done."""
        self.number += 1
        run_id = f"2026-{self.number}"
        spec = RunSpec(source=str(self.images), store=str(self.files.root), chunk_images=3, **asked)
        (self.plan,) = write_plans(self.files, spec, SPEC.spec_id, run_id)
        chunks = list(read_plan(self.files, run_id, SPEC.spec_id))
        for chunk in chunks:
            process_chunk(chunk, ThresholdSegmenter(), self.files, run_id)
        return [ref.path for chunk in chunks for ref in chunk.images]


@pytest.fixture
def night(files: LocalFiles, images: Path) -> Night:
    return Night(files, images)


def test_only_what_is_new_or_changed_is_done(night: Night) -> None:
    assert len(night()) == 7
    assert night() == []
    assert night.plan.skipped == 7
    make_collection(night.images, 9, broken=[2])  # writes all again, with other times
    assert len(night()) == 9
    for path in night.images.rglob("*.png"):
        os.utime(path, ns=(0, path.stat().st_mtime_ns))
    assert night() == []


def test_a_file_that_is_put_back_as_it_was_is_done_again(night: Night) -> None:
    """Its newest result is of what it was in between."""
    night()
    path = night.images / "0" / "image-000.png"
    before, old = path.read_bytes(), path.stat().st_mtime_ns
    path.write_bytes((night.images / "1" / "image-001.png").read_bytes())
    os.utime(path, ns=(old + 1, old + 1))
    assert night() == ["0/image-000.png"]
    path.write_bytes(before)
    os.utime(path, ns=(old, old))
    assert night() == ["0/image-000.png"]
    assert night() == []


def test_by_content_a_touched_file_is_done_and_an_altered_one_is_not(night: Night) -> None:
    night()
    touched, altered = (night.images / "0" / f"image-00{i}.png" for i in (0, 4))
    os.utime(touched)
    time, content = altered.stat().st_mtime_ns, bytearray(altered.read_bytes())
    content[-20] ^= 1  # of the same size, in the last checksum
    altered.write_bytes(content)
    os.utime(altered, ns=(time, time))
    assert night(verify_content=True) == ["0/image-004.png"]
    assert night(verify_content=True) == []
    assert night() == ["0/image-000.png"]


def test_what_is_gone_is_marked_and_keeps_its_results(night: Night, tmp_path: Path) -> None:
    night()
    gone = night.images / "0" / "image-000.png"
    kept = gone.rename(tmp_path / "kept.png")
    night()
    assert night.plan.missing == 1
    (row,) = census_missing(night)
    assert row == "0/image-000.png"
    kept.rename(gone)
    night()
    assert night.plan.missing == 0


def census_missing(night: Night) -> list[str]:
    listing = list_collection(str(night.images))
    assert listing.place is not None
    with census(listing_batches(listing), Snapshot(night.files), SPEC.spec_id) as counted:
        return [
            path for batch in counted.missing(listing.place) for path in batch["path"].to_pylist()
        ]


def test_what_a_locked_folder_hides_is_not_missing(night: Night) -> None:
    night()
    hidden = ImageRef(f"file://{night.images}/0", "0", 0, 0, None, "")
    there = [ref for ref in refs(night.images) if not ref.path.startswith("0/")]
    for refused, expected in ((None, 4), ("no_permission", 0)):
        listing = [replace(hidden, refused=refused), *there]
        with census(listing_batches(listing), Snapshot(night.files), SPEC.spec_id) as counted:
            assert sum(map(len, counted.missing(f"file://{night.images}/"))) == expected


def test_an_archive_may_list_any_number_of_images_and_not_none(
    files: LocalFiles, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(EmptyCollection, match="no images"):
        write_plans(files, RunSpec(source=str(tmp_path / "empty"), store=""), SPEC.spec_id, "r")


def test_partitions_hold_every_chunk_once_and_in_order(files: LocalFiles, images: Path) -> None:
    spec = RunSpec(source=str(images), store="", chunk_images=2)
    (whole,) = write_plans(files, spec, SPEC.spec_id, "whole")
    parts = write_plans(files, spec, SPEC.spec_id, "parts", partition_chunks=3)
    assert [part.chunks for part in parts] == [3, 1]
    assert sum(part.images for part in parts) == whole.images == 7
    planned_in_parts = [
        chunk
        for number in (1, 2)
        for chunk in read_plan(files, partition_id("parts", number), SPEC.spec_id)
    ]
    assert planned_in_parts == list(read_plan(files, "whole", SPEC.spec_id))


def test_missing_images_can_be_asked_for(images: Path, tmp_path: Path) -> None:
    spec = RunSpec(source=str(images), store=str(tmp_path / "store"), model="classical")
    for _ in range(3):
        with planned(spec) as (run,), run.staffed(), run.recorded():
            list(run.process() if run.plan.chunks else ())
        (images / "1" / "image-001.png").unlink(missing_ok=True)
        files = run.files
    runs = sorted(files.names("runs"))
    found = query(Snapshot(files), "SELECT path, since FROM missing_images").to_pylist()
    assert found == [{"path": "1/image-001.png", "since": runs[1]}]
    marked = "SELECT path FROM latest_images WHERE missing_since IS NOT NULL"
    assert query(Snapshot(files), marked)["path"].to_pylist() == ["1/image-001.png"]
