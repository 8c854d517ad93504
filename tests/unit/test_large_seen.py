"""Pictures, tiles and crops of a large image are those of the same image in a stack of masks."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from segpipe.errors import InputError, SpecError
from segpipe.export.crops import write_crops, write_overlays
from segpipe.geometry import Box
from segpipe.report import picture
from segpipe.report.picture import draw_image
from segpipe.report.source import halved, open_source, part_of_level
from segpipe.viewer.pyramid import levels
from segpipe.viewer.thumbnails import SIDE, Thumbnails
from segpipe.viewer.tiles import Tiles
from tests.large_rows import SHAPE, Twins, scene, twins, write_image

SCAN = scene(3, colours=3)


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Twins:
    return twins(tmp_path_factory.mktemp("seen"), SCAN)


@pytest.fixture(scope="module")
def grey(tmp_path_factory: pytest.TempPathFactory) -> Twins:
    one = scene(4, (1500, 1200), dtype=np.uint16, semantic=True)
    return twins(tmp_path_factory.mktemp("grey"), one, levels=2)


@st.composite
def parts(draw: st.DrawFn) -> tuple[int, Box]:
    level = draw(st.integers(0, 4))
    ends = []
    for side in SHAPE:
        size = -(-side // 2**level)
        first = draw(st.integers(0, size - 1))
        ends.append((first, draw(st.integers(first + 1, size))))
    (y0, y1), (x0, x1) = ends
    return level, Box(y0, x0, y1, x1)


@given(parts())
@settings(deadline=None, max_examples=25)
def test_a_part_of_a_level_is_the_mean_of_its_pixels(both: Twins, case: tuple[int, Box]) -> None:
    level, part = case
    wanted = halved(SCAN.pixels[part_of_level(part, level, SHAPE).slices], level)
    for snapshot in both.snapshots:
        (row,) = snapshot.image_rows()
        with open_source(row) as source:
            np.testing.assert_array_equal(source.read(part, level), wanted)


def test_levels_of_a_file_are_taken_from_there(tmp_path: Path) -> None:
    one = scene(5, (1301, 1103))
    path = write_image(tmp_path / "a.tif", one.pixels, levels=2)
    pair = twins(tmp_path, one, levels=2)
    assert path.read_bytes() == pair.image.read_bytes()
    (row,) = pair.snapshots[1].image_rows()
    with open_source(row) as source:
        assert [source.cost(level) for level in range(5)] == [1, 1, 1, 2, 4]
        for level in range(5):
            shape = source.level_shape(level)
            found = source.read(Box(0, 0, *shape), level)
            assert found.shape == (*shape, 1)
            true = halved(one.pixels, level)
            assert np.abs(found[:-1, :-1].astype(int) - true[:-1, :-1]).max() <= level + 1


@pytest.mark.parametrize("region", [None, Box(100, 50, 612, 700), Box(0, 0, 1, 1)])
def test_a_figure_is_the_same(both: Twins, region: Box | None) -> None:
    small, large = (draw_image(one, "scan.tif", region) for one in both.snapshots)
    assert small.note == large.note
    np.testing.assert_array_equal(np.array(small.picture), np.array(large.picture))
    assert bool(region) is bool(small.note)


def test_an_overview_says_that_it_is_one(grey: Twins, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(picture, "OVERVIEW", 400)
    small, large = (draw_image(one, "scan.tif") for one in grey.snapshots)
    assert (small.note, large.note) == ("", "overview, 1/4 of 1,500 x 1,200 px")
    assert large.picture.height < small.picture.height


@pytest.mark.parametrize("region", [Box(0, 0, 1301, 10), Box(5, 5, 5, 9), Box(-1, 0, 5, 5)])
def test_a_region_that_is_not_there_is_refused(both: Twins, region: Box) -> None:
    with pytest.raises(SpecError, match="not inside of its 1,300 x 1,100"):
        draw_image(both.snapshots[1], "scan.tif", region)


def decoded(png: bytes) -> np.ndarray:
    return np.array(Image.open(io.BytesIO(png))).astype(int)


def test_tiles_are_the_same(both: Twins) -> None:
    tiles = Tiles()
    for kind in ("pixels", "masks", "outlines"):
        for level in range(levels(*SHAPE)):
            for row, column in ((0, 0), (1 if level < 2 else 0, 0)):
                found = []
                for snapshot in both.snapshots:
                    (image,) = snapshot.image_rows()
                    drawn = tiles.draw(snapshot, image, kind, level, row, column)  # type: ignore[arg-type]
                    found.append(decoded(drawn))
                assert found[0].shape == found[1].shape
                if level == 0:
                    np.testing.assert_array_equal(*found)
                elif kind == "pixels":
                    assert np.abs(found[0] - found[1]).max() <= 2
    tiles.close()


def test_levels_that_the_file_lacks_are_made_once(
    both: Twins, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot = both.snapshots[1]
    (image,) = snapshot.image_rows()
    direct, kept = Tiles(), Tiles()
    drawn = direct.draw(snapshot, image, "pixels", 2, 0, 0)
    monkeypatch.setattr("segpipe.viewer.large._DIRECT", 1)
    assert np.abs(decoded(kept.draw(snapshot, image, "pixels", 2, 0, 0)) - decoded(drawn)).max() < 3
    with pytest.raises(SpecError, match="no tile"):
        kept.draw(snapshot, image, "pixels", 2, 1, 0)
    direct.close()
    kept.close()


def test_classes_and_16_bits_are_shown_by_level(grey: Twins) -> None:
    tiles = Tiles()
    found = []
    for snapshot in grey.snapshots:
        (image,) = snapshot.image_rows()
        found.append(decoded(tiles.draw(snapshot, image, "classes", 0, 2, 1)))
        pixels = decoded(tiles.draw(snapshot, image, "pixels", 1, 0, 0))
        assert pixels.std() > 10
    np.testing.assert_array_equal(*found)
    tiles.close()


def test_thumbnails_are_alike(both: Twins) -> None:
    pictures = []
    for snapshot in both.snapshots:
        (image,) = snapshot.image_rows()
        thumbnails = Thumbnails()
        webp = Image.open(io.BytesIO(thumbnails.draw(snapshot, image)))
        thumbnails.close()
        assert SIDE / 2 < max(webp.size) <= SIDE
        pictures.append(np.array(webp.convert("RGB").resize((50, 50))).astype(int))
    assert np.corrcoef(pictures[0].ravel(), pictures[1].ravel())[0, 1] > 0.95


def written(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*.png")) + sorted(folder.rglob("*.csv"))
    }


def test_crops_and_overlays_of_a_query_are_the_same(both: Twins, tmp_path: Path) -> None:
    found = []
    for number, snapshot in enumerate(both.snapshots):
        (image,) = snapshot.image_rows()
        labels = [1, 7, 3, image["n_objects"], 10_000]
        answer = pa.table({"image_id": [image["image_id"]] * 5, "label": labels})
        crops = write_crops(snapshot, answer, tmp_path / f"crops-{number}", margin=5)
        overlays = write_overlays(snapshot, answer.slice(0, 1), tmp_path / f"overlays-{number}")
        assert (crops.written, overlays.written) == (4, 1)
        assert crops.left_out == {"scan.tif, object 10000": "there is none"}
        found.append([written(tmp_path / f"{kind}-{number}") for kind in ("crops", "overlays")])
    assert found[0] == found[1]
    assert len(found[0][0]) == 9


def test_an_image_that_changed_is_not_drawn(tmp_path: Path) -> None:
    pair = twins(tmp_path, scene(6, (700, 600)))
    snapshot = pair.snapshots[1]
    data = pair.image.read_bytes()
    os.utime(pair.image, ns=(1, 1))
    assert draw_image(snapshot, "scan.tif").picture
    other = bytearray(data)
    other[-20] ^= 1
    pair.image.write_bytes(other)
    with pytest.raises(InputError, match="changed since it was segmented"):
        draw_image(snapshot, "scan.tif")
    pair.image.unlink()
    with pytest.raises(InputError):
        draw_image(snapshot, "scan.tif")
