"""Whoever checks a store says the same of masks in a stack and of those of a large image."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from segpipe.geometry import Box
from segpipe.reproduction.compare import compare_image
from segpipe.store import Snapshot, create_store
from segpipe.store.digest import logical_digest
from segpipe.store.fsck import check_store
from segpipe.store.pyramids import blocks
from segpipe.store.snapshot import is_large
from tests.large_rows import Twins, add_result, scene, twins


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Twins:
    return twins(tmp_path_factory.mktemp("twins"), scene(1, (2100, 1100), semantic=True))


def test_both_are_what_they_should_be(both: Twins) -> None:
    for snapshot, large in zip(both.snapshots, (False, True), strict=True):
        assert list(check_store(snapshot.files)) == []
        (row,) = snapshot.image_rows()
        assert is_large(row) is large


def test_the_digest_does_not_tell_them_apart(both: Twins) -> None:
    small, large = map(logical_digest, both.snapshots)
    assert small == large


def test_objects_by_part_are_those_whose_box_is_there(both: Twins) -> None:
    _, snapshot = both.snapshots
    (row,) = snapshot.image_rows()
    rows = snapshot.objects_of(row)
    assert len(rows) == row["n_objects"] > 20
    seen = set()
    for block in blocks((row["height"], row["width"])):
        there = {one["label"] for one in snapshot.objects_of(row, block)}
        assert there >= set(np.unique(snapshot.label_image(row, block)).tolist()) - {0}
        seen |= there
    assert seen == {one["label"] for one in rows}
    assert snapshot.objects_of(row, Box(0, 0, 1, 1)) == []


@pytest.mark.parametrize("what", ["pixel", "stranger"])
def test_labels_that_are_not_those_of_the_objects_are_found(tmp_path: Path, what: str) -> None:
    one = scene(2, (2100, 600))
    wrong = one.segmentation.label_image.copy()
    wrong[2099, 599] = 1 if what == "pixel" else 0xFFFFFFFF
    image = twins(tmp_path, one).image
    for large in (False, True):
        files = create_store(tmp_path / f"{large}")
        add_result(files, image, one.segmentation, large, masks=wrong)
        (problem,) = check_store(files)
        assert "its labels are not the objects of scan.tif (I6)" in problem.detail
        assert "[None]" not in problem.path


def test_what_differs_between_two_results_is_told_alike(both: Twins, tmp_path: Path) -> None:
    found = scene(1, (2100, 1100), semantic=True).segmentation
    labels = found.label_image.copy()
    labels[labels == 3] = 0
    labels[labels > 3] -= 1
    other = replace(
        found,
        label_image=labels,
        scores=np.delete(found.scores, 2),
        class_ids=np.delete(found.class_ids, 2),
    )
    told = []
    for snapshot, large in zip(both.snapshots, (False, True), strict=True):
        files = create_store(tmp_path / f"{large}")
        add_result(files, both.image, other, large)
        after = Snapshot(files)
        (then,), (now,) = snapshot.image_rows(), after.image_rows()
        told.append(compare_image(snapshot, after, then, now))
        assert compare_image(snapshot, snapshot, then, then).outcome == "identical"
    assert told[0] == told[1]
    assert (told[0].lost, told[0].gained, told[0].outcome) == (1, 0, "different")


def test_a_pyramid_with_a_file_missing_is_found(both: Twins, tmp_path: Path) -> None:
    copied = tmp_path / "store"
    shutil.copytree(both.image.parents[1] / "large", copied)
    min(copied.glob("masks.zarr/*/*/label_image/1/zarr.json")).unlink()
    assert [p.path for p in check_store(create_store(copied))]
