"""What other programs read out of an export: the same objects, pixel for pixel."""

from __future__ import annotations

import contextlib
import io
import json
import subprocess
import uuid
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import roifile
import yaml
import zarr
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from scipy.ndimage import binary_dilation
from shapely.geometry import Point, shape
from shapely.prepared import prep
from skimage.measure import label, points_in_poly

from segpipe.archive import Archive
from segpipe.errors import SpecError
from segpipe.export.coco import export_coco, export_coco_results, export_fiftyone
from segpipe.export.files import ExportSummary, write_folder_below
from segpipe.export.geojson import export_geojson
from segpipe.export.imagej import MAX_COORDINATE, export_imagej, region
from segpipe.export.labels import export_labels
from segpipe.export.ome_zarr import export_ome_zarr
from segpipe.export.tables import export_parquet
from segpipe.export.yolo import export_yolo
from segpipe.masks.outline import outline
from segpipe.masks.paint import paint
from segpipe.progress import Progress
from segpipe.query import query
from segpipe.records import CroppedMask, Instances
from segpipe.store import create_store, open_store
from segpipe.store.files import LocalFiles
from segpipe.store.ome_zarr import LabelImage, write_ome_zarr
from segpipe.store.pyramids import PyramidWriter, blocks
from segpipe.store.snapshot import Row, Snapshot
from tests.conftest import REPOSITORY
from tests.nights import Nights
from tests.unit.test_export import make_store

Export = Callable[..., ExportSummary]
FORMATS: dict[str, Export] = {
    "png": export_labels,
    "coco": export_coco,
    "coco-results": export_coco_results,
    "geojson": export_geojson,
    "imagej-roi": export_imagej,
    "yolo": export_yolo,
    "fiftyone": export_fiftyone,
    "parquet": export_parquet,
    "ome-zarr": export_ome_zarr,
}
FILE_PER_IMAGE = ["png", "geojson", "imagej-roi", "yolo", "ome-zarr"]
ODD = 'a/=cmd "quoted" <b> é.png'


def overlapping() -> Instances:
    """A ring, an object over a part of it, one of two parts, and one that touches in a corner."""
    ring = np.ones((9, 11), bool)
    ring[3:6, 3:8] = False
    parts = np.zeros((6, 6), bool)
    parts[:2, :2] = parts[3:, 3:] = parts[2, 2] = True
    masks = (
        CroppedMask(2, 3, ring),
        CroppedMask(4, 4, np.ones((5, 5), bool)),
        CroppedMask(13, 20, parts),
        CroppedMask(0, 0, np.ones((2, 3), bool)),
    )
    scores = np.array([0.9, 0.8, 0.7, 0.6], np.float32)
    return Instances(masks, scores, np.array([1, 2, 1, 2], np.int32))


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory: pytest.TempPathFactory) -> Archive:
    """An image with difficult objects, an empty one, and one that failed."""
    folder = tmp_path_factory.mktemp("store")
    nothing = Instances((), np.empty(0, np.float32), np.empty(0, np.int32))
    made = make_store(
        folder / "store",
        {
            ODD: paint(overlapping(), (20, 30)),
            "empty.png": paint(nothing, (20, 30)),
            "bad.png": None,
        },
        classes=("background", "cell", "debris, old"),
        pixels=folder / "images",
    )
    return Archive(made.files)


@pytest.fixture(scope="module")
def nights(tmp_path_factory: pytest.TempPathFactory) -> Archive:
    """A store whose images are there to be read."""
    folder = tmp_path_factory.mktemp("nights")
    night = Nights(create_store(folder / "store"), folder / "images")
    night.add_images(3, broken=1)
    colour = np.full((300, 601, 3), 20, np.uint8)
    colour[50:90, 70:300] = 200
    Image.fromarray(colour).save(folder / "images" / "large.png")
    night()
    return Archive(open_store(folder / "store").files)


def masks_of(snapshot: Archive, path: str = ODD) -> dict[int, np.ndarray]:
    row = snapshot.find_image(path)
    return {one["label"]: snapshot.mask(row, one["label"]) for one in snapshot.objects_of(row)}


# --- all formats --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FORMATS)
def test_the_summary_counts_all_there_is(name: str, snapshot: Archive, tmp_path: Path) -> None:
    summary = FORMATS[name](snapshot, tmp_path / "out")
    assert (summary.images, summary.objects, summary.failed) == (2, 4, 1)
    assert "1 images have no result" in summary.to_text()


@pytest.mark.parametrize("name", FORMATS)
def test_twice_gives_the_same_bytes_and_nothing_more(
    name: str, snapshot: Archive, tmp_path: Path
) -> None:
    def content() -> dict[str, bytes]:
        files = (path for path in tmp_path.rglob("*") if path.is_file())
        return {str(path): path.read_bytes() for path in files}

    FORMATS[name](snapshot, tmp_path)
    first = content()
    FORMATS[name](snapshot, tmp_path)
    assert content() == first
    assert not any(".partial" in path or ".old" in path for path in first)


@pytest.mark.parametrize("name", FILE_PER_IMAGE)
def test_a_link_that_leads_out_is_refused(name: str, snapshot: Archive, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    out = tmp_path / "out"
    (out / "labels" if name == "yolo" else out).mkdir(parents=True)
    link = out / "labels" / "a" if name == "yolo" else out / "a"
    link.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SpecError, match="leads out of"):
        FORMATS[name](snapshot, out)
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_no_folder_is_made_where_a_link_leads_out(nights: Archive, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    out = tmp_path / "out"
    out.mkdir()
    (out / "01").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SpecError, match="leads out of"):
        export_ome_zarr(nights, out)
    with pytest.raises(SpecError, match="leads out of"):
        write_folder_below(out, PurePosixPath("01/deeper/one.ome.zarr"), Path.mkdir)
    assert list((tmp_path / "elsewhere").iterdir()) == []


@pytest.mark.parametrize("name", FILE_PER_IMAGE)
def test_no_two_images_share_a_file_and_no_name_is_too_long(name: str, tmp_path: Path) -> None:
    nothing = Instances((), np.empty(0, np.float32), np.empty(0, np.int32))
    paths = ["x.tif", *(f"x.{end}/y.tif" for end in ("geojson", "zip", "txt", "png"))]
    paths += [f"x.ome.zarr/{'n' * length}.tif" for length in (230, 240, 246, 251)]
    images = {path: paint(nothing, (2, 2)) for path in paths}
    snapshot = make_store(tmp_path / "store", images, pixels=tmp_path / "images")
    FORMATS[name](snapshot, tmp_path / "out")
    if name == "ome-zarr":
        files = [path.parent for path in (tmp_path / "out").rglob("labels") if path.is_dir()]
    else:
        files = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert len(files) == len(paths) + (name == "yolo")


@pytest.mark.parametrize("name", sorted(set(FORMATS) - {"parquet"}))
def test_after_each_image_is_told_how_many_are_left(
    name: str, snapshot: Archive, tmp_path: Path
) -> None:
    heard: list[Progress] = []
    FORMATS[name](snapshot, tmp_path, observe=heard.append)
    assert [(one.done, one.total) for one in heard] == [(1, 2), (2, 2)]
    assert heard[-1].seconds_left == 0


@pytest.mark.parametrize("name", FORMATS)
def test_an_empty_store_is_exported_too(name: str, tmp_path: Path) -> None:
    summary = FORMATS[name](Snapshot(create_store(tmp_path / "new")), tmp_path / "out")
    assert (summary.images, summary.objects, summary.failed) == (0, 0, 0)


# --- what each tool reads -----------------------------------------------------------------------


def drawn(rings: Iterator[np.ndarray], size: tuple[int, int]) -> np.ndarray:
    """Pixels whose centre is inside an odd number of rings."""
    y, x = np.indices(size)
    centres = np.stack([x.ravel() + 0.5, y.ravel() + 0.5], axis=1)
    inside = np.zeros(centres.shape[0], bool)
    for ring in rings:
        inside ^= points_in_poly(centres, ring)
    return inside.reshape(size)


def test_geojson_polygons_are_the_masks(snapshot: Archive, tmp_path: Path) -> None:
    export_geojson(snapshot, tmp_path)
    (path,) = (tmp_path / "a").glob("*.geojson")
    content = json.loads(path.read_text("utf-8"))
    assert content["type"] == "FeatureCollection"
    assert json.loads((tmp_path / "empty.geojson").read_text())["features"] == []
    expected = masks_of(snapshot)
    y, x = np.indices((20, 30))
    rows = {one["label"]: one for one in snapshot.objects_of(snapshot.find_image(ODD))}
    for feature in content["features"]:
        label = int(feature["properties"]["name"])
        geometry = shape(feature["geometry"])
        assert geometry.is_valid
        inside = prep(geometry).contains
        found = [inside(Point(px + 0.5, py + 0.5)) for px, py in zip(x.flat, y.flat, strict=True)]
        assert np.array_equal(np.reshape(found, (20, 30)), expected.pop(label))
        properties = feature["properties"]
        assert properties["objectType"] == "detection"
        assert properties["classification"]["name"] == rows[label]["class_name"]
        assert properties["measurements"]["area px"] == geometry.area == rows[label]["area"]
        assert properties["measurements"]["score 0..1"] == rows[label]["score"]
        uuid.UUID(feature["id"])
    assert expected == {}


def test_imagej_regions_are_the_masks(snapshot: Archive, tmp_path: Path) -> None:
    export_imagej(snapshot, tmp_path)
    (path,) = (tmp_path / "a").glob("*.zip")
    expected = masks_of(snapshot)
    for roi in roifile.ImagejRoi.fromfile(path):
        label = int(roi.name.split()[0])
        rings = roi.coordinates(multi=True) if roi.composite else [roi.coordinates()]
        assert np.array_equal(drawn(iter(rings), (20, 30)), expected.pop(label))
        assert roi.name.split(maxsplit=1)[1] in ("cell", "debris, old")
    assert expected == {}
    with zipfile.ZipFile(tmp_path / "empty.zip") as archive:
        assert archive.namelist() == []


def test_imagej_regions_far_out_are_where_they_are(tmp_path: Path) -> None:
    """What ImageJ reads: of a header's 16 bits it makes -5,000 to 60,535; floats it takes whole."""
    size = (12, 70_000)
    ring = np.ones((9, 11), bool)
    ring[3:6, 3:8] = False
    masks = [CroppedMask(1, x, mask) for x in (60_520, 65_530, 69_980) for mask in (ring[:2], ring)]
    instances = Instances(
        tuple(masks), np.linspace(0.9, 0.5, 6, dtype=np.float32), np.ones(6, np.int32)
    )
    snapshot = make_store(tmp_path / "store", {"far.tif": paint(instances, size)})
    export_imagej(snapshot, tmp_path / "out")
    regions = roifile.ImagejRoi.fromfile(tmp_path / "out" / "far.zip")
    assert len(regions) == 6
    for roi, mask in zip(regions, masks, strict=True):
        corners = roi.coordinates(multi=True) if roi.composite else [roi.coordinates()]
        rings = iter([ring - (mask.x0, mask.y0) for ring in corners])
        assert np.array_equal(drawn(rings, mask.mask.shape), mask.mask)
        floats = roi.composite or (roi.subpixelresolution and roi.version >= 222)
        assert floats or max(ring.max() for ring in corners) <= 60_535


def test_an_object_too_far_out_for_imagej_is_named() -> None:
    def at(x: int) -> roifile.ImagejRoi:
        return region(outline(CroppedMask(0, x, np.ones((2, 3), bool))), "7 cell", "a/wide.tif")

    exact = at(MAX_COORDINATE - 3)
    assert exact.coordinates()[:, 0].max() == MAX_COORDINATE
    with pytest.raises(SpecError, match=r"a/wide.tif, object 7 cell: .* 16,777,217; .* 16,777,216"):
        at(MAX_COORDINATE - 2)


def test_yolo_polygons_are_the_masks(snapshot: Archive, tmp_path: Path) -> None:
    export_yolo(snapshot, tmp_path)
    (path,) = (tmp_path / "labels" / "a").glob("*.txt")
    masks = list(masks_of(snapshot).values())
    about = yaml.safe_load((tmp_path / "data.yaml").read_text("utf-8"))
    assert about == {"train": "images", "val": "images", "names": {0: "cell", 1: "debris, old"}}
    lines = path.read_text().splitlines()
    assert [line.split()[0] for line in lines] == ["0", "1", "0", "1"]
    for line, mask in zip(lines, masks, strict=True):
        corners = np.array(line.split()[1:], float).reshape(-1, 2) * (30, 20)
        assert np.array_equal(drawn(iter([corners]), (20, 30)), mask)
    assert (tmp_path / "labels" / "empty.txt").read_text() == ""


def test_coco_results_are_loaded_beside_a_truth(snapshot: Archive, tmp_path: Path) -> None:
    export_coco(snapshot, tmp_path)
    export_coco_results(snapshot, tmp_path)
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(tmp_path / "instances.json"))
        results = truth.loadRes(str(tmp_path / "results.json"))
    images = json.loads((tmp_path / "images.json").read_text())
    assert images["annotations"] == []
    assert images["images"] == list(truth.imgs.values())
    assert len(results.anns) == 4
    for one, mask in zip(results.anns.values(), masks_of(snapshot).values(), strict=True):
        assert np.array_equal(coco_mask.decode(one["segmentation"]).astype(bool), mask)
        assert one["image_id"] in truth.imgs
        assert one["category_id"] in truth.cats
    assert [round(one["score"], 5) for one in results.anns.values()] == [0.9, 0.8, 0.7, 0.6]


def test_parquet_is_the_newest_result_of_each_image(nights: Archive, tmp_path: Path) -> None:
    export_parquet(nights, tmp_path)
    for table, order in (("images", "image_id"), ("objects", "image_id, label")):
        view = f"latest_{table}"
        expected = query(nights, f"SELECT * FROM {view} ORDER BY {order}")
        found = pq.read_table(tmp_path / f"{table}.parquet")
        keys = [(name, "ascending") for name in order.split(", ")]
        assert found.sort_by(keys).to_pylist() == [
            {name: row[name] for name in found.column_names} for row in expected.to_pylist()
        ]
        assert found.schema.field("image_id").metadata[b"meaning"]


# --- with pixels --------------------------------------------------------------------------------


def ok_rows(archive: Archive) -> list[Row]:
    return [row for row in archive.image_rows() if row["status"] == "ok"]


def test_fiftyone_and_yolo_have_the_pixels_that_were_segmented(
    nights: Archive, tmp_path: Path
) -> None:
    export_fiftyone(nights, tmp_path / "fiftyone", with_images=True)
    export_yolo(nights, tmp_path / "yolo", with_images=True)
    labels = json.loads((tmp_path / "fiftyone" / "labels.json").read_text())
    names = {image["segpipe_image_id"]: image["file_name"] for image in labels["images"]}
    for row in ok_rows(nights):
        expected = nights.image(row)
        for path in (
            tmp_path / "fiftyone" / "data" / names[row["image_id"]],
            tmp_path / "yolo" / "images" / row["path"],
        ):
            assert np.array_equal(np.atleast_3d(np.array(Image.open(path))), expected)
        assert (tmp_path / "yolo" / "labels" / row["path"]).with_suffix(".txt").exists()


@pytest.mark.parametrize("name", ["fiftyone", "yolo", "ome-zarr"])
def test_an_image_that_is_gone_is_named(
    name: str, tmp_path: Path, nights: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = ok_rows(nights)[-1]
    place = Path(row["uri"].removeprefix("file://"))
    hidden = place.rename(place.with_suffix(".hidden"))
    try:
        if name == "ome-zarr":
            summary = export_ome_zarr(nights, tmp_path)
        else:
            export = export_fiftyone if name == "fiftyone" else export_yolo
            summary = export(nights, tmp_path, with_images=True)
    finally:
        hidden.rename(place)
    assert list(summary.absent) == [row["path"]]
    assert f"pixels of {row['path']} are not in it" in summary.to_text()
    assert summary.images == len(ok_rows(nights)) - (name == "ome-zarr")


def test_ome_zarr_is_the_image_and_its_labels(nights: Archive, tmp_path: Path) -> None:
    export_ome_zarr(nights, tmp_path)
    export_ome_zarr(nights, tmp_path)  # in place of the first
    for row in ok_rows(nights):
        group = zarr.open_group(tmp_path / Path(row["path"]).with_suffix(".ome.zarr"), mode="r")
        assert np.array_equal(np.moveaxis(group["0"][:], 0, 2), nights.image(row))
        labels = group["labels/objects"]
        assert np.array_equal(labels["0"][:], nights.label_image(row))
        about = labels.attrs["ome"]["image-label"]
        objects = nights.objects_of(row)
        assert [one["label-value"] for one in about["properties"]] == [o["label"] for o in objects]
        assert [one["area"] for one in about["properties"]] == [o["area"] for o in objects]
        assert len(about["colors"]) == len(objects)
    assert not any(".partial" in path.name for path in tmp_path.rglob("*"))


def place_of(group: zarr.Group, level: int) -> tuple[float, float]:
    """The centre of mass of a level, in the coordinates that its transformations lead to."""
    about = group.attrs["ome"]["multiscales"][0]["datasets"][level]
    scale, translation = about["coordinateTransformations"]
    mass = np.asarray(group[about["path"]], float).reshape(group[about["path"]].shape[-2:])
    y, x = (
        float((mass.sum(axis=1 - axis) * np.arange(mass.shape[axis])).sum() / mass.sum())
        for axis in (0, 1)
    )
    (*_, sy, sx), (*_, ty, tx) = scale["scale"], translation["translation"]
    return sy * y + ty, sx * x + tx


@pytest.mark.parametrize("shape", [(512, 1024), (517, 1021)])
def test_an_object_of_the_ome_zarr_is_at_one_place_in_all_levels(
    tmp_path: Path, shape: tuple[int, int]
) -> None:
    sides = [0, 1, 2, 3]  # where a square of the last level begins and ends, and between
    off: dict[int, list[np.ndarray]] = {}
    for shift in sides:
        labels = np.zeros(shape, np.uint8)
        labels[64 + shift : 128 + shift, 200 + shift : 320 + shift] = 1
        folder = tmp_path / f"{shift}.ome.zarr"
        write_ome_zarr(folder, "x", labels[..., None] * 200, {"objects": LabelImage(labels, {})})
        group = zarr.open_group(folder, mode="r")
        centre = 95.5 + shift, 259.5 + shift
        for level in range(3):
            assert place_of(group, level) == pytest.approx(centre, abs=1e-6)
            there = np.array(place_of(group["labels/objects"], level))
            off.setdefault(level, []).append(there - centre)
            if shift == 0:  # whole squares of all levels
                assert there == pytest.approx(centre)
    # A label is one of a square's pixels; over all ways to lie in it, it is not off to one side.
    assert np.abs(off.pop(0)).max() == 0
    assert all(np.abs(np.mean(found, axis=0)).max() <= 0.5 for found in off.values())


def told_by(script: str, path: Path) -> Any:
    """What a script of tests/foreign prints, which runs where other libraries are."""
    python = REPOSITORY / ".venv-foreign" / "bin" / "python"
    if not python.exists():
        pytest.skip("the libraries of tests/foreign are absent (make .venv-foreign/.ready)")
    done = subprocess.run(
        [python, REPOSITORY / "tests" / "foreign" / script, path],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_supervision_reads_the_yolo_dataset(tmp_path: Path) -> None:
    nothing = Instances((), np.empty(0, np.float32), np.empty(0, np.int32))
    snapshot = make_store(
        tmp_path / "store",
        {"one.png": paint(overlapping(), (20, 30)), "none.png": paint(nothing, (9, 7))},
        classes=("background", "cell", "debris"),
        pixels=tmp_path / "images",
    )
    export_yolo(snapshot, tmp_path / "out", with_images=True)
    told = told_by("read_yolo.py", tmp_path / "out")
    assert told["classes"] == ["cell", "debris"]
    assert told["images"]["none.png"] == {"size": [9, 7], "objects": []}
    objects = told["images"]["one.png"]["objects"]
    assert [one["class"] for one in objects] == [0, 1, 0, 1]
    masks = masks_of(Archive(snapshot.files), "one.png").values()
    for one, mask in zip(objects, masks, strict=True):
        read = np.zeros_like(mask)
        read[tuple(one["pixels"])] = True
        # It fills the pixels that the outline runs through too: to the right, below, and a bridge.
        assert not (mask & ~read).any()
        if label(mask, connectivity=1, return_num=True)[1] == 1:
            assert not (read & ~binary_dilation(mask, np.ones((3, 3)))).any()
        y, x = np.nonzero(mask)
        box = x.min(), y.min(), x.max() + 1, y.max() + 1
        assert np.abs(np.subtract(one["box"], box)).max() <= 1


def test_other_programs_open_the_ome_zarr(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 255, (300, 601, 3), np.uint8)
    labels = np.zeros((300, 601), np.uint16)
    labels[50:90, 70:300] = 2
    images = {
        "objects": LabelImage(labels, {2: (10, 20, 30)}, [{"label-value": 2, "area": 9200}]),
        "classes": LabelImage((labels > 0).astype(np.uint8), {1: (1, 2, 3)}),
    }
    write_ome_zarr(tmp_path / "large.ome.zarr", "large", pixels, images)
    told = told_by("read_ome_zarr.py", tmp_path / "large.ome.zarr")
    assert told["models"] == ["Image", "Labels", "ImageLabel", "ImageLabel"]
    image, *shown = told["layers"]
    assert (image["kind"], image["sum"]) == ("image", int(pixels.sum()))
    assert image["shapes"] == [[3, 300, 601], [3, 150, 301], [3, 75, 151]]
    assert {(one["kind"], one["sum"]) for one in shown} == {
        ("labels", int(labels.sum(dtype=int))), ("labels", int((labels > 0).sum()))
    }  # fmt: skip
    assert all(one["shapes"] == [[300, 601], [150, 301], [75, 151]] for one in shown)


def test_napari_reads_the_masks_of_a_large_image_in_the_store(tmp_path: Path) -> None:
    labels = np.zeros((700, 600), np.uint32)
    labels[40:90, 500:600] = 70_000
    writer = PyramidWriter(LocalFiles(tmp_path), "m", labels.shape, {"label_image": np.uint32})
    for block in blocks(labels.shape):
        writer.write(block, {"label_image": labels[block.slices]})
    writer.close()
    told = told_by("read_ome_zarr.py", tmp_path / "m" / "label_image")
    assert told["models"] == ["ImageLabel"]
    (layer,) = told["layers"]
    assert (layer["kind"], layer["dtype"], layer["sum"]) == ("labels", "uint32", int(labels.sum()))
    assert layer["shapes"] == [[700, 600], [350, 300], [175, 150]]
