"""OME-Zarr folders and planes as images of a collection: listed, read, looked at and done again."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr
from PIL import Image

from segpipe.errors import BudgetError, InputError, Reason, SpecError
from segpipe.pipeline import Care, process_chunk
from segpipe.planner import write_plans
from segpipe.query import query
from segpipe.readers import Listing, Reader, list_collection
from segpipe.readers.regions import RegionLimits, open_regions
from segpipe.readers.whole_plane import decode_plane
from segpipe.records import Chunk, ImageRef
from segpipe.spec import Limits, RunSpec
from segpipe.store import Snapshot, create_store
from segpipe.store.files import LocalFiles
from segpipe.store.fsck import check_store
from segpipe.store.plans import read_plan
from tests.generated import SPEC, ThresholdSegmenter, blobs
from tests.integration.conftest import Command
from tests.region_files import ZARRS, ome_tiff, ome_zarr, stack

SHAPE = (83, 109)


def grey_zarr(path: Path, kind: str, seed: int = 0) -> np.ndarray:
    """A field of 0.25 x 0.5 micrometres to a pixel."""
    return ome_zarr(path, kind, blobs(seed, SHAPE)[None, None, None].copy())[0, 0, 0]


def paths(source: Path | str) -> list[str]:
    return [ref.path for ref in list_collection(str(source))]


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """Photographs, an OME-Zarr 0.4 and one of 0.5."""
    folder = tmp_path / "mixed"
    (folder / "more").mkdir(parents=True)
    for number in range(3):
        Image.fromarray(blobs(number)).save(folder / f"field-{number}.png")
    grey_zarr(folder / "more" / "a.ome.zarr", "blosc_2", seed=2)
    grey_zarr(folder / "more" / "b.zarr", "zstd_3", seed=3)
    (folder / "more" / "notes.txt").write_text("no image")
    return folder


MIXED = ["field-0.png", "field-1.png", "field-2.png", "more/a.ome.zarr", "more/b.zarr"]


# Listings


def test_a_folder_of_images_has_an_ome_zarr_as_one(mixed: Path) -> None:
    listing = list_collection(str(mixed))
    assert [ref.path for ref in listing] == MIXED
    assert listing.ignored == 1, "its chunks are neither images nor ignored"


@pytest.mark.parametrize("name", ["a.ome.zarr", "b.zarr"])
def test_an_ome_zarr_is_a_source_by_itself(mixed: Path, name: str) -> None:
    listing = list_collection(str(mixed / "more" / name))
    assert listing.kind == "image"
    assert [ref.path for ref in listing] == [name]


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("more/*", ["a.ome.zarr", "b.zarr", "notes.txt"]),
        ("**/*.zarr", ["more/a.ome.zarr", "more/b.zarr"]),
        ("more/**", ["a.ome.zarr", "b.zarr", "notes.txt"]),
    ],
)
def test_a_glob_finds_it_and_not_its_chunks(mixed: Path, pattern: str, found: list[str]) -> None:
    assert paths(f"{mixed}/{pattern}") == found


def test_a_link_to_an_ome_zarr_elsewhere_is_one_image(mixed: Path, tmp_path: Path) -> None:
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "x").symlink_to(mixed / "more" / "b.zarr")
    assert paths(tmp_path / "linked") == ["x"]


def test_a_plate_is_no_image_and_its_fields_are(tmp_path: Path) -> None:
    plate = tmp_path / "in" / "plate.ome.zarr"
    grey_zarr(plate / "A" / "1" / "0", "blosc_2")
    (plate / ".zattrs").write_text('{"plate": {"wells": []}}')
    (plate / "A" / "1" / ".zattrs").write_text('{"well": {"images": []}}')
    for source in (tmp_path / "in", plate):
        assert [path[-5:] for path in paths(source)] == ["A/1/0"]


def test_a_group_whose_metadata_repeats_that_of_its_images_is_no_image(tmp_path: Path) -> None:
    group = zarr.create_group(tmp_path / "in" / "plate.zarr", zarr_format=3)
    group.create_group("A/1")
    group.attrs["ome"] = {"version": "0.5", "plate": {"wells": []}}
    grey_zarr(tmp_path / "in" / "plate.zarr" / "A" / "1" / "0", "zstd_3")
    zarr.consolidate_metadata(tmp_path / "in" / "plate.zarr")
    assert b'"multiscales"' in (tmp_path / "in" / "plate.zarr" / "zarr.json").read_bytes()
    assert paths(tmp_path / "in") == ["plate.zarr/A/1/0"]
    zarr.consolidate_metadata(tmp_path / "in" / "plate.zarr" / "A" / "1" / "0")
    assert paths(tmp_path / "in") == ["plate.zarr/A/1/0"]


def test_what_is_called_an_ome_zarr_and_is_none_ends_with_a_reason(tmp_path: Path) -> None:
    (tmp_path / "empty.ome.zarr" / "0").mkdir(parents=True)
    (tmp_path / "text.ome.zarr").mkdir()
    (tmp_path / "text.ome.zarr" / "zarr.json").write_text("{nonsense")
    refs = list(list_collection(str(tmp_path)))
    assert [ref.path for ref in refs] == ["empty.ome.zarr", "text.ome.zarr"]
    with Reader(Limits()) as reader:
        for ref in refs:
            with pytest.raises(InputError, match="no image in OME-Zarr"):
                reader.header(ref)


def test_a_manifest_names_folders_files_and_planes(mixed: Path) -> None:
    ome_tiff(mixed / "stack.ome.tif")
    (mixed / "odd#z=1.png").write_bytes((mixed / "field-0.png").read_bytes())
    manifest = mixed / "images.txt"
    uri = (mixed / "stack.ome.tif").as_uri()
    named = ["more/b.zarr", "stack.ome.tif", "stack.ome.tif#z=2,c=1", f"{uri}#c=1,z=2,t=0",
             "odd#z=1.png", "gone.tif#z=1", "stack.ome.tif#q=1"]  # fmt: skip
    manifest.write_text("\n".join(named))
    listing = list_collection(str(manifest))
    refs = list(listing)
    assert [ref.path for ref in refs] == [
        "more/b.zarr", "stack.ome.tif", "stack.ome.tif#z=2,t=0,c=1", "odd#z=1.png",
        "gone.tif#z=1,t=0", "stack.ome.tif#q=1",
    ]  # fmt: skip
    assert listing.ignored == 1, "a plane that was named before"
    assert [ref.refused for ref in refs] == [None] * 4 + [Reason.NOT_FOUND] * 2
    assert refs[2].uri == f"{uri}#z=2,t=0,c=1"
    assert len({ref.image_id for ref in refs}) == len(refs)


def test_a_plane_is_a_source_by_itself(tmp_path: Path) -> None:
    ome_tiff(tmp_path / "a.ome.tif")
    assert paths(f"{tmp_path}/a.ome.tif#z=1") == ["a.ome.tif#z=1,t=0"]
    with pytest.raises(SpecError, match="there is no such file"):
        list_collection(f"{tmp_path}/b.ome.tif#z=1")


# Reading


def test_every_plane_is_read_as_it_was_written(tmp_path: Path) -> None:
    data = ome_tiff(tmp_path / "a.ome.tif")
    ome_zarr(tmp_path / "b.ome.zarr", "shards_3", data := data.copy())
    sparse = data
    expected = {"a.ome.tif": stack(), "b.ome.zarr": sparse}
    fragments = {"z=2,t=1,c=3": (1, [3], 2), "z=0,t=0,c=2,0,1": (0, [2, 0, 1], 0)}
    for isolated in (False, True):
        with Reader(Limits(), isolated=isolated) as reader:
            for name, whole in expected.items():
                for fragment, (t, channels, z) in fragments.items():
                    (ref,) = list_collection(f"{tmp_path}/{name}#{fragment}")
                    image = reader.read(ref)
                    plane = np.moveaxis(whole[t, channels, z], 0, -1)
                    np.testing.assert_array_equal(image.pixels, plane)
                    assert image.header == reader.header(ref)
                    assert image.header.pixel_size_um == (0.25, 0.5)
                    assert image.sha256 == reader.sha256(ref)


@pytest.mark.parametrize("fragment", ["", "#c=1,2", "#z=0,t=0,c=0,1,2,3"])
def test_what_no_model_takes_is_refused_and_nothing_left_out(tmp_path: Path, fragment: str) -> None:
    ome_zarr(tmp_path / "a.ome.zarr", "zstd_3")
    (ref,) = list_collection(f"{tmp_path}/a.ome.zarr{fragment}")
    with Reader(Limits()) as reader:
        for call in (reader.header, reader.read):
            with pytest.raises(InputError, match=r"#c=0") as refused:
                call(ref)
            assert refused.value.reason is Reason.UNSUPPORTED_CHANNELS
            assert not refused.value.detail.startswith("a.ome.zarr"), "its row has the path"


def test_a_limit_is_that_of_the_plane(tmp_path: Path) -> None:
    ome_zarr(tmp_path / "a.ome.zarr", "zstd_3")
    (ref,) = list_collection(f"{tmp_path}/a.ome.zarr#c=0")
    pixels = SHAPE[0] * SHAPE[1]
    with Reader(Limits(max_pixels=pixels)) as reader:
        assert reader.read(ref).header.shape == SHAPE
    with (
        Reader(Limits(max_pixels=pixels - 1)) as reader,
        pytest.raises(InputError, match="83 x 109 pixels; the limit is 9,046") as refused,
    ):
        reader.header(ref)
    assert refused.value.reason is Reason.TOO_LARGE


@pytest.mark.parametrize("kind", ZARRS)
def test_the_hash_of_a_folder_is_what_sha256sum_makes_of_it(tmp_path: Path, kind: str) -> None:
    grey_zarr(tmp_path / "a.ome.zarr", kind)
    (ref,) = list_collection(f"{tmp_path}/a.ome.zarr")
    folder = tmp_path / "a.ome.zarr"
    first = [path for path in (folder / "0").rglob("*") if path.is_file()]
    names = [*first, *folder.glob("[.z]*"), *(folder / "1").glob("[.z]*")]
    unread = {folder / ".zgroup", folder / "0" / ".zattrs", folder / "1" / ".zattrs"}
    names = [path for path in names if path.is_file() and path not in unread]
    read = sorted(os.fsencode(path.relative_to(folder)) for path in names)
    printed = subprocess.run(["sha256sum", *read], cwd=folder, check=True, capture_output=True)
    with Reader(Limits()) as reader:
        assert reader.sha256(ref) == hashlib.sha256(printed.stdout).hexdigest()
        plane = replace(ref, uri=f"{ref.uri}#z=0,t=0")
        text = f"{reader.sha256(ref)}#z=0,t=0"
        assert reader.sha256(plane) == hashlib.sha256(text.encode()).hexdigest()


def test_planes_of_a_file_have_hashes_of_their_own(tmp_path: Path) -> None:
    ome_tiff(tmp_path / "a.ome.tif")
    refs = [next(iter(list_collection(f"{tmp_path}/a.ome.tif#z={z}"))) for z in (0, 1)]
    of_file = hashlib.sha256((tmp_path / "a.ome.tif").read_bytes()).hexdigest()
    with Reader(Limits()) as reader:
        told = [reader.sha256(ref) for ref in refs]
    expected = [f"{of_file}#z={z},t=0" for z in (0, 1)]
    assert told == [hashlib.sha256(text.encode()).hexdigest() for text in expected]


# Changes


def _chunks(folder: Path) -> list[Path]:
    return sorted(path for path in (folder / "0").rglob("[0-9]*") if path.is_file())


def _rewritten(folder: Path) -> None:
    """Another content of the same size, and an older time, as from a backup."""
    chunk = _chunks(folder)[0]
    old = chunk.stat().st_mtime_ns
    chunk.write_bytes(chunk.read_bytes()[::-1])
    os.utime(chunk, ns=(old - 10**9, old - 10**9))


def _touched(folder: Path) -> None:
    os.utime(_chunks(folder)[0], ns=(0, 0))


def _gone(folder: Path) -> None:
    _chunks(folder)[-1].unlink()


def _renamed(folder: Path) -> None:
    chunk = _chunks(folder)[-1]
    chunk.rename(chunk.with_name("9"))


def _described(folder: Path) -> None:
    path = folder / ".zattrs"
    path.write_text(path.read_text() + " ")


@pytest.mark.parametrize("change", [_rewritten, _touched, _gone, _renamed, _described])
def test_a_folder_that_changed_is_noticed(tmp_path: Path, change: Callable[[Path], None]) -> None:
    folder = tmp_path / "a.ome.zarr"
    grey_zarr(folder, "blosc_2")
    (ref,) = list_collection(str(folder))
    planes = [replace(ref, uri=f"{ref.uri}#z=0,t=0,c={c}") for c in range(2)]
    with Reader(Limits()) as reader:
        assert reader.unchanged(ref)
        assert reader.changed([ref, *planes]) == set()
        change(folder)
        assert not reader.unchanged(ref)
        assert reader.changed([ref, *planes]) == {one.image_id for one in (ref, *planes)}


def test_labels_in_the_folder_do_not_change_the_image(tmp_path: Path) -> None:
    folder = tmp_path / "a.ome.zarr"
    grey_zarr(folder, "zstd_3")
    (ref,) = list_collection(str(folder))
    grey_zarr(folder / "labels" / "cells", "zstd_3")
    with Reader(Limits()) as reader:
        assert reader.unchanged(ref)
    assert paths(tmp_path) == ["a.ome.zarr"]


def test_a_file_that_changed_changed_all_its_planes(tmp_path: Path) -> None:
    ome_tiff(tmp_path / "a.ome.tif")
    refs = [next(iter(list_collection(f"{tmp_path}/a.ome.tif#z={z}"))) for z in (0, 1)]
    with Reader(Limits()) as reader:
        assert reader.changed(refs) == set()
        with (tmp_path / "a.ome.tif").open("ab") as file:
            file.write(b"more")
        assert reader.changed(refs) == {ref.image_id for ref in refs}


# Runs


class Night:
    """Runs over one source, each planned anew."""

    def __init__(self, root: Path, source: Path) -> None:
        files = create_store(root)
        assert isinstance(files, LocalFiles)
        self.files, self.source, self.number = files, source, 0

    def __call__(self, care: Care | None = None, **asked: Any) -> list[str]:
        """The paths that were done."""
        self.number += 1
        run_id = f"2026-{self.number}"
        spec = RunSpec(source=str(self.source), store=str(self.files.root), chunk_images=3, **asked)
        (self.plan,) = write_plans(self.files, spec, SPEC.spec_id, run_id)
        chunks = list(read_plan(self.files, run_id, SPEC.spec_id))
        for chunk in chunks:
            process_chunk(chunk, ThresholdSegmenter(), self.files, run_id, care)
        return [ref.path for chunk in chunks for ref in chunk.images]

    def rows(self) -> dict[str, dict[str, Any]]:
        return {row["path"]: row for row in Snapshot(self.files).image_rows()}


@pytest.mark.parametrize("careful", [False, True])
def test_a_run_does_what_is_new_or_changed(mixed: Path, tmp_path: Path, careful: bool) -> None:
    night = Night(tmp_path / "store", mixed)
    assert night(Care(careful=careful)) == MIXED
    assert night() == []
    assert night(verify_content=True) == []
    rows = night.rows()
    assert {row["status"] for row in rows.values()} == {"ok"}
    assert {row["format"] for row in rows.values()} == {"png", "ome-zarr"}
    assert not any(row["input_changed"] for row in rows.values())
    _rewritten(mixed / "more" / "a.ome.zarr")
    assert night() == ["more/a.ome.zarr"]
    assert list(check_store(night.files)) == []


def test_by_content_a_chunk_that_was_altered_in_secret_is_found(
    mixed: Path, tmp_path: Path
) -> None:
    night = Night(tmp_path / "store", mixed)
    night()
    grown = blobs(3, SHAPE)[None, None, None].copy()
    grown[..., :16, :16] = 255
    folder, other = mixed / "more" / "b.zarr", tmp_path / "other.zarr"
    ome_zarr(other, "plain_3", grown)
    plain = mixed / "more" / "b.zarr"
    shutil.rmtree(plain)
    grey_zarr(plain, "plain_3", seed=3)
    assert night() == ["more/b.zarr"]
    chunk = folder / "0" / "c" / "0" / "0" / "0" / "0" / "0"
    time = chunk.stat().st_mtime_ns
    chunk.write_bytes((other / chunk.relative_to(folder)).read_bytes())
    os.utime(chunk, ns=(time, time))
    assert night() == [], "nothing tells it but its content"
    assert night(verify_content=True) == ["more/b.zarr"]


def test_sizes_are_in_micrometres_where_they_are_known(mixed: Path, tmp_path: Path) -> None:
    night = Night(tmp_path / "store", mixed)
    night()
    rows = night.rows()
    sizes = {path: (row["pixel_size_y_um"], row["pixel_size_x_um"]) for path, row in rows.items()}
    assert sizes == dict.fromkeys(MIXED[:3], (None, None)) | dict.fromkeys(MIXED[3:], (0.25, 0.5))
    snapshot = Snapshot(night.files)
    for path, (y, x) in sizes.items():
        for each in snapshot.objects_of(rows[path]):
            if y is None:
                told = [each[name] for name in ("area_um2", "centroid_y_um", "centroid_x_um")]
                assert told == [None] * 3
            else:
                assert each["area_um2"] == pytest.approx(each["area"] * y * x)
                assert each["centroid_y_um"] == pytest.approx(each["centroid_y"] * y)
                assert each["centroid_x_um"] == pytest.approx(each["centroid_x"] * x)
            assert each["perimeter_um"] is None, "the sides of its pixels differ"
    sql = "SELECT count(area_um2) AS n FROM objects JOIN images USING (image_id) GROUP BY format"
    assert (
        min(query(snapshot, sql)["n"].to_pylist()) == 0 < max(query(snapshot, sql)["n"].to_pylist())
    )


def test_each_plane_of_a_manifest_has_its_row(
    tmp_path: Path, segpipe: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "stacks"
    folder.mkdir()
    planes = np.stack([blobs(seed, SHAPE) for seed in range(12)]).reshape(2, 2, 3, *SHAPE)
    metadata = {"axes": "TCZYX", "PhysicalSizeY": 0.5, "PhysicalSizeX": 0.5}
    tifffile.imwrite(folder / "a.ome.tif", planes, ome=True, metadata=metadata)
    ome_zarr(folder / "b.ome.zarr", "zlib_2", planes.copy())
    Image.fromarray(blobs(1)).save(folder / "c.png")
    monkeypatch.chdir(tmp_path)
    code, _, told = segpipe("planes", folder)
    assert code == 2
    assert "a.ome.tif: 2 channels" in told
    code, manifest, _ = segpipe("planes", folder, "--channels", "0")
    assert code == 0
    (tmp_path / "planes.csv").write_text(manifest)
    night = Night(tmp_path / "store", tmp_path / "planes.csv")
    assert len(night()) == 2 * 6 + 1
    assert night() == []
    rows = night.rows()
    assert {row["status"] for row in rows.values()} == {"ok"}
    assert len({row["sha256"] for row in rows.values()}) == len(rows)
    snapshot = Snapshot(night.files)
    for z in range(3):
        labels = snapshot.label_image(rows[f"{folder}/a.ome.tif#z={z},t=1,c=0"])
        np.testing.assert_array_equal(labels > 0, planes[1, 0, z] > 128)
    night.source = folder
    assert night() == ["a.ome.tif", "b.ome.zarr"], "its first plane; two channels are refused"
    assert night.plan.missing == 0, "the planes are those of files that are there"
    assert night.rows()["b.ome.zarr"]["reason"] == "unsupported_channels"


def test_planes_of_what_cannot_be_read_are_left_to_the_run(
    tmp_path: Path, segpipe: Command
) -> None:
    (tmp_path / "a.tif").write_bytes(b"II*\0")
    Image.fromarray(blobs(1)).save(tmp_path / "odd\nname.png")
    code, out, _ = segpipe("planes", tmp_path)
    assert code == 0
    assert out == f'path\n{tmp_path}/a.tif\n"{tmp_path}/odd\nname.png"\n'
    code, _, told = segpipe("planes", tmp_path, "--channels", "1")
    assert code == 2
    assert "c=1; the image has c=0 to 0" in told


# Hostile metadata


def _with(folder: Path, name: str, change: Callable[[dict[str, Any]], None]) -> None:
    path = folder / name
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def _scale(value: Any) -> Callable[[Path], None]:
    def change(content: dict[str, Any]) -> None:
        transformations = content["multiscales"][0]["datasets"][0]["coordinateTransformations"]
        transformations[0]["scale"] = value

    return lambda folder: _with(folder, ".zattrs", change)


def _path(value: str) -> Callable[[Path], None]:
    def change(content: dict[str, Any]) -> None:
        content["multiscales"][0]["datasets"][0]["path"] = value

    return lambda folder: _with(folder, ".zattrs", change)


def _array(**values: Any) -> Callable[[Path], None]:
    return lambda folder: _with(folder, "0/.zarray", lambda content: content.update(values))


def _cut(folder: Path) -> None:
    path = folder / ".zattrs"
    path.write_bytes(path.read_bytes()[:60])


def _chunk_is_a_folder(folder: Path) -> None:
    chunk = _chunks(folder)[0]
    chunk.unlink()
    chunk.mkdir()


def _chunk_leads_out(folder: Path) -> None:
    chunk = _chunks(folder)[0]
    chunk.unlink()
    chunk.symlink_to("/etc/hostname")


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (_cut, "corrupt"),
        (_scale("wide"), "corrupt"),
        (_scale([1, 1]), "corrupt"),
        (_path("../../../etc"), "unsafe_member"),
        (_path("/etc"), "unsafe_member"),
        (_array(shape=[1, 1, 1, 1 << 30, 1 << 30]), "too_large"),
        (_array(shape=[1, 1, 1, 0, 5]), "corrupt"),
        (_array(chunks=[1, 1, 1, 1 << 20, 1 << 20]), "too_large"),
        (_array(chunks=[1, 1, 1, 1, 1], shape=[1, 1, 1, 4000, 4000]), "corrupt"),
        (_array(compressor={"id": "evil"}), "unsupported_format"),
        (_array(dtype="|O"), "unsupported_pixel_type"),
        (_chunk_is_a_folder, "not_a_file"),
        (_chunk_leads_out, "unsafe_member"),
    ],
)
def test_what_is_wrong_with_a_folder_is_its_row(
    tmp_path: Path, damage: Callable[[Path], None], reason: str
) -> None:
    source = tmp_path / "in"
    grey_zarr(source / "bad.ome.zarr", "blosc_2")
    Image.fromarray(blobs(1)).save(source / "good.png")
    damage(source / "bad.ome.zarr")
    night = Night(tmp_path / "store", source)
    assert night() == ["bad.ome.zarr", "good.png"]
    rows = night.rows()
    assert rows["bad.ome.zarr"]["reason"] == reason
    assert rows["good.png"]["status"] == "ok"
    assert night() == []


@pytest.mark.parametrize("size", [1e300, -1, 0, 1e-300])
def test_a_pixel_size_that_cannot_be_is_not_known(tmp_path: Path, size: float) -> None:
    grey_zarr(tmp_path / "a.ome.zarr", "blosc_2")
    _scale([1, 1, 1, size, size])(tmp_path / "a.ome.zarr")
    (ref,) = list_collection(str(tmp_path))
    with Reader(Limits()) as reader:
        assert reader.read(ref).header.pixel_size_um is None


def test_a_folder_that_may_not_be_looked_at_is_refused(tmp_path: Path) -> None:
    grey_zarr(tmp_path / "a.ome.zarr", "blosc_2")
    if os.geteuid() == 0:
        pytest.skip("root may look at anything")
    (tmp_path / "a.ome.zarr" / "0").chmod(0)
    (ref,) = list_collection(str(tmp_path))
    assert ref.refused is Reason.NO_PERMISSION


def test_one_look_is_enough_for_a_chunk_of_planes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grey_zarr(tmp_path / "a.ome.zarr", "blosc_2")
    (ref,) = list_collection(str(tmp_path))
    planes = [replace(ref, uri=f"{ref.uri}#z={z},t=0") for z in range(50)]
    looks: list[ImageRef] = []
    with Reader(Limits()) as reader:
        unchanged = reader.unchanged
        monkeypatch.setattr(reader, "unchanged", lambda one: looks.append(one) or unchanged(one))
        assert reader.changed(planes) == set()
    assert len(looks) == 1


def test_an_ome_zarr_is_listed_anew_each_time(tmp_path: Path) -> None:
    grey_zarr(tmp_path / "a.ome.zarr", "blosc_2")
    listing: Listing = list_collection(str(tmp_path / "a.ome.zarr"))
    (before,) = listing
    _touched(tmp_path / "a.ome.zarr")
    (after,) = listing
    assert before.etag != after.etag
    assert Chunk(SPEC.spec_id, (before,)).chunk_id != Chunk(SPEC.spec_id, (after,)).chunk_id


def test_what_is_held_beside_the_pixels_is_chunks_and_not_the_folder(tmp_path: Path) -> None:
    ome_zarr(tmp_path / "a.ome.zarr", "plain_3", stack(depth=9, times=9))
    (ref,) = list_collection(f"{tmp_path}/a.ome.zarr#c=0")
    chunk = 2 * 32 * 32 * 2
    with Reader(Limits()) as reader:
        assert reader.held_bytes(ref) == 3 * 4 * chunk + chunk
        assert reader.held_bytes(ref) < ref.size_bytes // 10
    png = ImageRef("file:///a.png", "a.png", 1234, 0)
    with Reader(Limits()) as reader:
        assert reader.held_bytes(png) == 1234


@pytest.mark.parametrize("memory", [1 << 30, 9_000, 300])
def test_a_plane_that_is_more_than_a_region_is_read_in_bands(tmp_path: Path, memory: int) -> None:
    values = np.where(stack() % 7, stack(), np.nan).astype(np.float32)
    data = ome_zarr(tmp_path / "a.ome.zarr", "plain_3", values)
    limits = RegionLimits(memory_bytes=1 << 30)
    (ref,) = list_collection(f"{tmp_path}/a.ome.zarr#c=1")
    with open_regions(ref, limits) as source:
        source.limits = RegionLimits(memory_bytes=memory)
        if memory < 4 * SHAPE[1]:
            with pytest.raises(BudgetError):
                decode_plane(source)
            return
        decoded = decode_plane(source)
    assert decoded.n_nonfinite == np.count_nonzero(np.isnan(data[0, 1, 0])) > 0
    np.testing.assert_array_equal(decoded.pixels[..., 0], np.nan_to_num(data[0, 1, 0]))
