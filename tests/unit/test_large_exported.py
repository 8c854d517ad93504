"""Exports of a large image hold what those of the same image in a stack of masks hold."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import tifffile
import zarr
from PIL import Image

from segpipe.archive import Archive
from segpipe.export import ome_zarr
from segpipe.export.coco import export_coco, export_coco_results, export_fiftyone
from segpipe.export.files import ExportSummary
from segpipe.export.geojson import export_geojson
from segpipe.export.imagej import export_imagej
from segpipe.export.labels import export_labels
from segpipe.export.ome_zarr import export_ome_zarr
from segpipe.export.selection import select
from segpipe.export.tables import export_parquet
from segpipe.export.yolo import export_yolo
from segpipe.geometry import Box
from segpipe.pipeline import process_chunk
from segpipe.readers.regions import RegionLimits, open_regions
from segpipe.report.diff.image import diff_image
from segpipe.report.diff.picture import draw_diff
from segpipe.report.diff.runs import ImagePair
from segpipe.report.picture import draw_image
from segpipe.store import Snapshot, create_store
from segpipe.store.digest import logical_digest
from segpipe.store.object_masks import masks_of
from segpipe.store.ome_zarr import write_ome_zarr
from segpipe.store.snapshot import is_large
from tests import parts
from tests.large_rows import Twins, scene, twins
from tests.region_files import GEO_TAGS, ref_to

SHAPE = 2300, 1100
ONE = scene(7, SHAPE, colours=3, semantic=True)
GREY = scene(8, (1200, 900), dtype=np.uint16)


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Twins:
    return twins(tmp_path_factory.mktemp("exported"), ONE, levels=1)


@pytest.fixture(scope="module")
def grey(tmp_path_factory: pytest.TempPathFactory) -> Twins:
    return twins(tmp_path_factory.mktemp("grey"), GREY)


Export = Callable[[Snapshot, Path], ExportSummary]


def exported(both: Twins, export: Export, folder: Path) -> tuple[Path, Path]:
    for snapshot, name in zip(both.snapshots, ("small", "large"), strict=True):
        summary = export(snapshot, folder / name)
        assert (summary.images, summary.failed, dict(summary.absent)) == (1, 0, {})
    return folder / "small", folder / "large"


@pytest.mark.parametrize(
    "export", [export_coco, export_coco_results, export_geojson, export_imagej, export_yolo]
)
def test_objects_give_the_same_bytes(both: Twins, tmp_path: Path, export: Export) -> None:
    small, large = exported(both, export, tmp_path)
    files = [path.relative_to(small) for path in sorted(small.rglob("*")) if path.is_file()]
    assert files
    for path in files:
        assert (small / path).read_bytes() == (large / path).read_bytes(), path


def test_label_images_are_tiff_files_of_tiles(both: Twins, tmp_path: Path) -> None:
    small, large = exported(both, export_labels, tmp_path)
    for name in ("scan", "scan.classes"):
        found = np.array(Image.open(small / f"{name}.png"))
        with tifffile.TiffFile(large / f"{name}.tif") as file:
            assert file.pages.first.is_tiled
            np.testing.assert_array_equal(file.asarray(), found)
    told = export_labels(both.snapshots[1], tmp_path / "again").to_text()
    assert "1 are of large images" in told


@pytest.mark.parametrize("twin", ["both", "grey"])
def test_pixels_beside_objects_are_those_of_the_image(
    twin: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    pair: Twins = request.getfixturevalue(twin)
    snapshot = pair.snapshots[1]
    assert not export_fiftyone(snapshot, tmp_path, with_images=True).absent
    found = tifffile.imread(tmp_path / "data" / "scan.tif")
    np.testing.assert_array_equal(found, tifffile.imread(pair.image))
    assert '"scan.tif"' in (tmp_path / "labels.json").read_text()


@pytest.mark.parametrize("twin", ["both", "grey"])
def test_ome_zarr_is_the_same_array_by_array(
    twin: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    pair: Twins = request.getfixturevalue(twin)
    small, large = exported(pair, export_ome_zarr, tmp_path)
    groups = [zarr.open_group(folder / "scan.ome.zarr", mode="r") for folder in (small, large)]
    names = dict(groups[0].members(max_depth=None))
    assert names.keys() == dict(groups[1].members(max_depth=None)).keys()
    for name, one in names.items():
        other = groups[1][name]
        assert dict(one.attrs) == dict(other.attrs)
        if isinstance(one, zarr.Array):
            np.testing.assert_array_equal(one[:], other[:])
    assert dict(groups[0].attrs) == dict(groups[1].attrs)


def test_more_objects_than_can_be_described_are_told(
    both: Twins, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ome_zarr, "MOST_DESCRIBED", 5)
    summary = export_ome_zarr(both.snapshots[1], tmp_path)
    assert "up to 5 have" in summary.to_text()
    labels = zarr.open_group(tmp_path / "scan.ome.zarr/labels/objects", mode="r")
    assert "properties" not in labels.attrs["ome"]["image-label"]


def test_an_image_that_is_gone_is_named(tmp_path: Path) -> None:
    pair = twins(tmp_path, scene(9, (300, 200)))
    pair.image.unlink()
    for export in (export_ome_zarr, lambda s, out: export_yolo(s, out, with_images=True)):
        assert list(export(pair.snapshots[1], tmp_path / "out").absent) == ["scan.tif"]


def test_tables_and_selections_are_the_same(both: Twins, tmp_path: Path) -> None:
    small, large = exported(both, export_parquet, tmp_path)
    kept = [name for name in pq.read_schema(small / "objects.parquet").names if "mask_" not in name]
    tables = [pq.read_table(folder / "objects.parquet", columns=kept) for folder in (small, large)]
    assert tables[0].equals(tables[1])
    part = Box(0, 100, 1100, 700)
    found = []
    for snapshot in both.snapshots:
        chosen = select(snapshot, "area > 2000")
        (row,) = chosen.image_rows()
        labels = [one["label"] for one in chosen.objects_of(row)]
        assert 0 < row["n_objects"] == len(labels) < ONE.segmentation.n_objects
        found.append((labels, chosen.label_image(row, part), chosen.semantic(row, part)))
    assert found[0][0] == found[1][0]
    np.testing.assert_array_equal(found[0][1], found[1][1])
    np.testing.assert_array_equal(found[0][2], found[1][2])


def test_an_archive_gives_pixels_and_masks_of_parts_and_of_all(both: Twins) -> None:
    found = []
    for files in (both.small, both.large):
        archive = Archive(files)
        part = Box(3, 40, 900, 1000)
        np.testing.assert_array_equal(archive.image("scan.tif"), ONE.pixels)
        np.testing.assert_array_equal(archive.image("scan.tif", part), ONE.pixels[part.slices])
        assert archive.image("scan.tif", level=2).shape == (575, 275, 3)
        found.append([archive.mask("scan.tif", label) for label in (1, 9)])
        (stack,) = archive.stacks()
        labels = stack.labels[0].compute()[: SHAPE[0], : SHAPE[1]]
        np.testing.assert_array_equal(labels, ONE.segmentation.label_image)
        assert stack.semantic is not None
    np.testing.assert_array_equal(found[0], found[1])


def test_masks_come_in_the_order_of_the_rows(both: Twins) -> None:
    _, snapshot = both.snapshots
    (image,) = snapshot.image_rows()
    assert is_large(image)
    rows = snapshot.objects_of(image)[::-1]
    pairs = list(masks_of(snapshot, image, rows))
    assert [row["label"] for row, _ in pairs] == [row["label"] for row in rows]
    assert all(mask.mask.sum() == row["area"] for row, mask in pairs)


def test_a_difference_is_drawn_alike(both: Twins) -> None:
    drawn = []
    for snapshot in both.snapshots:
        (row,) = snapshot.image_rows()
        fewer = select(snapshot, "label <> 5")
        (other,) = fewer.image_rows()
        diff = diff_image(snapshot, fewer, row, other)
        assert (diff.lost, diff.gained) == ((5,), ())
        pair = ImagePair(row, row, diff)
        drawn.append(np.array(draw_diff(snapshot, pair, ("one", "other"))))
    assert drawn[0].shape[0] > drawn[1].shape[0], "an overview"


@pytest.mark.parametrize(("orientation", "placed"), [(1, True), (6, False)])
def test_masks_lie_on_earth_where_their_image_does(
    tmp_path: Path, orientation: int, placed: bool
) -> None:
    tags = [*GEO_TAGS, (274, "H", 1, orientation, True)]
    parts.keep(tmp_path, parts.scene(3, (400, 300), 20), metadata=None, extratags=tags)
    segmenter = parts.Parts()
    files = create_store(tmp_path / "store")
    process_chunk(parts.chunk_in(tmp_path, segmenter), segmenter, files, "run")
    archive = Archive(files)
    export_labels(archive, tmp_path / "labels")
    export_fiftyone(archive, tmp_path / "fields", with_images=True)
    with open_regions(ref_to(tmp_path / "images" / "one.tif"), RegionLimits()) as source:
        expected = source.georeference
    assert (expected is not None) == placed
    for path in ("labels/one.tif", "fields/data/one.tif"):
        with open_regions(ref_to(tmp_path / path), RegionLimits()) as source:
            found = source.georeference
        if placed:
            assert found is not None
            assert (found.affine, found.epsg) == (expected.affine, expected.epsg)
        else:
            assert found is None


@pytest.mark.parametrize("semantic", [False, True])
def test_what_a_run_makes_of_large_and_small_images_is_looked_at(
    tmp_path: Path, semantic: bool
) -> None:
    shapes = {"a.tif": (400, 300), "b.png": (300, 290), "c.tif": (100, 90), "d.zarr": (700, 300)}
    images = {name: parts.scene(3, shape, 20) for name, shape in shapes.items()}
    for name in ("a.tif", "c.tif"):
        parts.keep(tmp_path, images[name], name)
    Image.fromarray(images["b.png"].squeeze()).save(tmp_path / "images" / "b.png")
    write_ome_zarr(tmp_path / "images" / "d.zarr", "d", images["d.zarr"], {})
    segmenter = parts.Parts(semantic=semantic)
    files = create_store(tmp_path / "store")
    process_chunk(parts.chunk_in(tmp_path, segmenter), segmenter, files, "run")
    archive = Archive(files)
    rows = {row["path"]: row for row in archive.image_rows()}
    assert [is_large(rows[name]) for name in shapes] == [True, True, False, True]
    for name, pixels in images.items():
        np.testing.assert_array_equal(archive.image(name), pixels)
        assert draw_image(archive, name, Box(10, 20, 90, 80)).note.startswith("region 10,20,90,80")
        assert not draw_image(archive, name).note
        for one in archive.objects_of(rows[name]):
            assert archive.mask(name, one["label"]).sum() == one["area"]
    stacks = list(archive.stacks())
    assert sorted(len(stack.images) for stack in stacks) == [1] * 4
    assert [stack.semantic is not None for stack in stacks] == [semantic] * 4
    for export in (export_coco, export_labels, export_ome_zarr, export_yolo):
        summary = export(archive, tmp_path / export.__name__)
        assert (summary.images, dict(summary.absent)) == (4, {})
    logical_digest(archive)
