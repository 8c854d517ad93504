"""Real images through the real models: the same content whatever the chunks, and sound counts."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from segpipe.pipeline import process_chunk
from segpipe.segmenters.build import build
from segpipe.segmenters.catalog import resolve
from segpipe.spec import RunSpec
from segpipe.store import Snapshot, create_store
from segpipe.store.digest import logical_digest
from segpipe.store.fsck import check_store
from tests.generated import all_of, refs

SIZES = (64, 7, 1)

EVERY = {"classical": 1, "unet-nuclei": 3}
"""Which of the images a model gets: the network takes a second for each."""


@pytest.fixture(scope="module")
def manifest(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The 65 validation images of the nuclei, and 10 photographs."""
    with (shared_data / "nuclei" / "index.csv").open() as index:
        names = [row["image_id"] for row in csv.DictReader(index) if row["split"] == "val"]
    nuclei = [shared_data / "nuclei" / "images" / f"{name}.png" for name in names]
    photographs = sorted((shared_data / "coco" / "images").glob("*.jpg"))[:10]
    path = tmp_path_factory.mktemp("manifest") / "images.txt"
    path.write_text("\n".join(map(str, [*nuclei, *photographs])))
    return path


@pytest.fixture(scope="module", params=["classical", "unet-nuclei"])
def snapshots(
    request: pytest.FixtureRequest, manifest: Path, tmp_path_factory: pytest.TempPathFactory
) -> list[Snapshot]:
    """The same images by one model, in chunks of each size."""
    resolved = resolve(RunSpec(source=str(manifest), store="unused", model=request.param))
    segmenter = build(resolved.spec, resolved.weights_path, None)
    images = refs(manifest)[:: EVERY[request.param]]
    made = []
    for size in SIZES:
        files = create_store(tmp_path_factory.mktemp(f"store-{size}"))
        for chunk in all_of(size, images, resolved.spec.spec_id):
            process_chunk(chunk, segmenter, files, "run")
        made.append(Snapshot(files))
    return made


def test_counts_are_the_labels_in_zarr(snapshots: list[Snapshot]) -> None:
    snapshot = snapshots[0]
    rows = list(snapshot.image_rows())
    assert len(rows) in (75, 25)
    assert {row["status"] for row in rows} == {"ok"}
    for row in rows:
        labels, areas = np.unique(snapshot.label_image(row), return_counts=True)
        visible = {
            item["label"]: item["area_visible"]
            for item in snapshot.objects_of(row)
            if item["area_visible"]
        }
        assert visible == dict(zip(labels[labels > 0], areas[labels > 0], strict=True))
    assert sum(row["n_objects"] for row in rows) > 500
    assert list(check_store(snapshot.files)) == []


def test_the_cut_into_chunks_changes_nothing(snapshots: list[Snapshot]) -> None:
    assert len({logical_digest(snapshot) for snapshot in snapshots}) == 1
