"""The demo archive is real, exact where it says so, and always the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import skimage.io
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage

from segpipe.demo import BROKEN, N_FIELDS, PHOTOGRAPHS, DemoArchive, make_archive
from segpipe.demo_fields import Scene, simulate_field


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> DemoArchive:
    return make_archive(tmp_path_factory.mktemp("demo"))


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_the_archive_holds_what_it_says(archive: DemoArchive) -> None:
    files = [path for path in archive.source.rglob("*") if path.is_file()]
    assert len(files) == archive.n_images == len(PHOTOGRAPHS) + N_FIELDS + 1
    unreadable = []
    for path in files:
        try:
            assert skimage.io.imread(path).size > 0
        except OSError:
            unreadable.append(path.name)
    assert unreadable == [BROKEN]


def test_each_field_has_its_truth_and_nothing_else_has(archive: DemoArchive) -> None:
    stems = {path.stem for path in (archive.source / "fields").iterdir()} - {Path(BROKEN).stem}
    assert {path.stem for path in archive.truth.iterdir()} == stems
    assert not stems & {Path(photograph.name).stem for photograph in PHOTOGRAPHS}


def test_fields_and_truth_are_16_bit_and_fit(archive: DemoArchive) -> None:
    for path in archive.truth.iterdir():
        labels = np.asarray(Image.open(path))
        (field,) = (archive.source / "fields").glob(f"{path.stem}.*")
        image = skimage.io.imread(field)
        assert image.dtype == labels.dtype == np.uint16
        assert image.shape == labels.shape
        assert image.max() > 255


def test_every_photograph_has_a_licence_that_people_can_read(archive: DemoArchive) -> None:
    said = (archive.source.parent / "SOURCES.md").read_text("utf-8")
    for photograph in PHOTOGRAPHS:
        assert f"`{photograph.name}`" in said
        assert photograph.licence in said


def test_the_same_seed_makes_the_same_bytes(archive: DemoArchive, tmp_path: Path) -> None:
    make_archive(tmp_path / "same")
    assert contents(tmp_path / "same") == contents(archive.source.parent)


def test_another_seed_makes_other_fields(
    archive: DemoArchive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("segpipe.demo.N_FIELDS", 2)
    other = contents(make_archive(tmp_path, seed=1).truth)
    assert not set(other.values()) & set(contents(archive.truth).values())


def test_making_it_again_repairs_it_and_touches_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("segpipe.demo.N_FIELDS", 2)
    archive = make_archive(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    spoiled = archive.source / "fields" / "field_01.tif"
    content = spoiled.read_bytes()
    spoiled.write_bytes(b"spoiled")
    make_archive(tmp_path)
    assert spoiled.read_bytes() == content
    del before[spoiled]
    assert {path: path.stat().st_mtime_ns for path in before} == before


@settings(max_examples=12, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    height=st.integers(20, 90),
    width=st.integers(20, 90),
    n_objects=st.integers(0, 15),
    clustering=st.floats(0, 1),
    radius=st.floats(5, 25),
)
def test_truth_is_a_label_image(
    seed: int, height: int, width: int, n_objects: int, clustering: float, radius: float
) -> None:
    scene = Scene(radius=radius, clustering=clustering)
    image, labels = simulate_field(np.random.default_rng(seed), (height, width), n_objects, scene)
    assert image.shape == labels.shape == (height, width)
    found = np.unique(labels[labels > 0])
    assert np.array_equal(found, np.arange(1, len(found) + 1))
    assert len(found) <= n_objects
    for label in found:
        assert ndimage.label(labels == label)[1] == 1


def test_a_field_shows_its_nuclei_where_the_truth_has_them() -> None:
    rng = np.random.default_rng(0)
    image, labels = simulate_field(rng, (256, 256), 20, Scene(clustering=0.0))
    assert labels.max() == 20
    background = np.median(image[labels == 0])
    for label in range(1, 21):
        assert np.median(image[labels == label]) > 1.5 * background


def test_clustering_makes_nuclei_touch() -> None:
    def touching(clustering: float) -> int:
        scene = Scene(clustering=clustering)
        _, labels = simulate_field(np.random.default_rng(0), (512, 512), 40, scene)
        left, right = labels[:, :-1], labels[:, 1:]
        return int(((left != right) & (left > 0) & (right > 0)).sum())

    assert touching(0.9) > 2 * touching(0.0)


def test_fewer_photons_make_more_noise() -> None:
    def roughness(photons: float) -> float:
        scene = Scene(photons=photons)
        image, _ = simulate_field(np.random.default_rng(0), (128, 128), 0, scene)
        counts = image.astype(float) - 100
        return float(np.diff(counts).std() / counts.mean())

    assert roughness(50) > 1.5 * roughness(1000)
