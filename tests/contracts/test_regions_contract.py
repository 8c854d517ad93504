"""What every image that is read by region keeps: a region is the crop of the whole image."""

from __future__ import annotations

import threading
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import obstore
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from segpipe.buckets.client import Patience, connect
from segpipe.errors import BudgetError, InputError, Reason, SpecError
from segpipe.geometry import Box
from segpipe.readers import Reader, list_collection
from segpipe.readers.names import split_object_uri
from segpipe.readers.regions import RegionLimits, RegionSource, open_regions
from segpipe.readers.regions.georeference import georeference
from segpipe.spec import Limits
from tests.region_files import FILES, ZARRS, geo_tiff, ome_tiff, ome_zarr, ref_to, write
from tests.s3 import new_address

Opened = Callable[[str], tuple[RegionSource, list[np.ndarray]]]
CASES = [*FILES, "ome.tif", "ome.tif#z=2,t=1,c=3,0", "geo.tif", *ZARRS, "shards_3#z=1,c=2,1,0"]


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opened]:
    """Case -> the open image, and the whole of each of its levels, (H, W, C)."""
    folder = tmp_path_factory.mktemp("regions")
    sources = ExitStack()

    def opened_at(path: Path, fragment: str = "") -> RegionSource:
        return sources.enter_context(open_regions(ref_to(path, fragment)))

    @cache
    def open_case(case: str) -> tuple[RegionSource, list[np.ndarray]]:
        name, _, fragment = case.partition("#")
        path = folder / case
        if name in FILES:
            write(path, FILES[name]())
            with Reader(Limits()) as reader:
                return opened_at(path), [reader.read(ref_to(path)).pixels]
        if name == "geo.tif":
            whole = geo_tiff(path)
            return opened_at(path), [whole[::step, ::step] for step in (1, 2, 4)]
        path = folder / case.replace("#", "-")
        data = ome_tiff(path) if name == "ome.tif" else ome_zarr(path, name)
        z, t, channels = {
            "": (0, 0, [0]),
            "z=2,t=1,c=3,0": (2, 1, [3, 0]),
            "z=1,c=2,1,0": (1, 0, [2, 1, 0]),
        }[fragment]
        fragment = fragment or ("" if name == "ome.tif" else "c=0")
        source = opened_at(path, f"#{fragment}" if fragment else "")
        whole = np.moveaxis(data[t, channels, z], 0, -1)
        return source, [whole[::step, ::step] for step in (1, 2, 4)[: len(source.levels)]]

    with sources:
        yield open_case


@st.composite
def boxes(draw: st.DrawFn, shape: tuple[int, int]) -> Box:
    ends = [sorted(draw(st.tuples(*[st.integers(0, size)] * 2))) for size in shape]
    return Box(ends[0][0], ends[1][0], ends[0][1], ends[1][1])


@pytest.mark.parametrize("case", CASES)
def test_a_region_is_the_crop_of_the_whole_image(opened: Opened, case: str) -> None:
    source, wholes = opened(case)
    assert [level.shape for level in source.levels] == [whole.shape[:2] for whole in wholes]
    assert source.header.shape == wholes[0].shape[:2]
    assert source.header.channels == wholes[0].shape[2]
    assert source.header.dtype == wholes[0].dtype.name

    @settings(max_examples=25, deadline=None)
    @given(st.data())
    def check(data: st.DataObject) -> None:
        level = data.draw(st.integers(0, len(wholes) - 1))
        box = data.draw(boxes(wholes[level].shape[:2]))
        got = source.read(box, level)
        assert got.dtype == wholes[level].dtype
        assert got.flags.c_contiguous
        np.testing.assert_array_equal(got, wholes[level][box.slices])

    check()


@pytest.mark.parametrize("case", FILES)
def test_a_header_is_that_of_the_reader(opened: Opened, case: str, tmp_path: Path) -> None:
    source, _ = opened(case)
    with Reader(Limits()) as reader:
        assert source.header == reader.header(ref_to(write(tmp_path / case, FILES[case]())))


@pytest.mark.parametrize("case", ["tiled.tif", "strips.tif", "shards_3", "zlib_2", "rgb.jpg"])
def test_several_threads_read_at_once(opened: Opened, case: str) -> None:
    source, (whole, *_) = opened(case)
    height, width = whole.shape[:2]
    rng = np.random.default_rng(0)
    corners = rng.integers(0, (height - 20, width - 20), (64, 2)).tolist()
    together = threading.Barrier(4)

    def read(part: int) -> None:
        together.wait()
        for y, x in corners[part::4]:
            box = Box(y, x, y + 20, x + 20)
            np.testing.assert_array_equal(source.read(box), whole[box.slices])

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(read, range(4)))


@pytest.mark.parametrize("case", ["tiled.tif", "rgb.png", "zstd_3", "geo.tif"])
def test_what_is_not_there_is_refused(opened: Opened, case: str) -> None:
    source, (whole, *_) = opened(case)
    height, width = whole.shape[:2]
    beyond = Box(-1, 0, 5, 5), Box(0, 0, height + 1, 5), Box(0, 3, 5, 2), Box(0, 0, 1, width + 1)
    for box in beyond:
        with pytest.raises(SpecError, match=r"reaches beyond level 0"):
            source.read(box)
    with pytest.raises(SpecError, match=rf"level {len(source.levels)}; it has 0 to"):
        source.read(Box(0, 0, 1, 1), len(source.levels))


def test_nonfinite_samples_of_a_region_are_counted(opened: Opened) -> None:
    source, _ = opened("float_nan.tif")
    pixels, n_nonfinite = source.region(Box(0, 0, 14, 10))
    assert n_nonfinite == 4
    assert np.isfinite(pixels).all()


def test_a_region_over_the_memory_is_refused_with_both_numbers(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", FILES["tiled.tif"]())
    with open_regions(ref_to(path), RegionLimits(memory_bytes=3000)) as source:
        assert source.read(Box(0, 0, 20, 50)).shape == (20, 50, 3)
        with pytest.raises(BudgetError, match=r"a\.tif: .* takes 3,030 bytes; the limit is 3,000"):
            source.read(Box(0, 0, 10, 101))


@pytest.mark.parametrize("name", ["rgb.png", "rgb.jpg", "one_packed_strip.tif"])
def test_what_has_no_parts_must_fit_the_memory(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name, FILES[name]())
    with pytest.raises(InputError, match=r"the limit is 20,000 \(memory_bytes\)") as refused:
        open_regions(ref_to(path), RegionLimits(memory_bytes=20_000))
    assert refused.value.reason is Reason.TOO_LARGE
    assert name in refused.value.detail


def test_a_strip_of_plain_numbers_need_not_fit_the_memory(tmp_path: Path) -> None:
    height, width = 4000, 1100
    path = tmp_path / "a.tif"
    values = np.arange(height * width, dtype=np.uint16).reshape(height, width)
    tifffile.imwrite(path, values, rowsperstrip=height)
    with open_regions(ref_to(path), RegionLimits(memory_bytes=5 << 20)) as source:
        box = Box(1900, 7, 1960, 900)
        np.testing.assert_array_equal(source.read(box)[:, :, 0], values[box.slices])


@pytest.mark.parametrize("name", ["tiled.tif", "zstd_3", "rgb.png"])
def test_the_time_of_a_region_is_limited(tmp_path: Path, name: str) -> None:
    path, fragment = tmp_path / name, ""
    if name in FILES:
        write(path, FILES[name]())
    else:
        ome_zarr(path, name)
        fragment = "#c=0"
    with open_regions(ref_to(path, fragment), RegionLimits(decode_seconds=1e-9)) as source:
        with pytest.raises(InputError, match=name) as refused:
            source.read(Box(0, 0, 9, 9))
        assert refused.value.reason is Reason.TIME_LIMIT


def test_pixel_sizes_and_places_are_told(opened: Opened) -> None:
    assert opened("ome.tif")[0].pixel_size_um == pytest.approx((0.25, 0.5))
    assert opened("zstd_3")[0].pixel_size_um == pytest.approx((0.25, 0.5))
    assert opened("tiled.tif")[0].pixel_size_um is None
    assert opened("tiled.tif")[0].georeference is None
    place = opened("geo.tif")[0].georeference
    assert place is not None
    assert place.affine == (10.0, 0.0, 500_000.0, 0.0, -10.0, 5_000_000.0)
    assert place.epsg == 32633
    assert place.tags[33550] == [10.0, 10.0, 0.0]


@pytest.mark.parametrize(
    ("code", "values"),
    [(33550, [10.0, float("nan"), 0.0]), (34735, [1.0, 1.0]), (34735, [1 << 16]), (34737, [1])],
)
def test_tags_that_are_not_of_their_type_place_nothing(code: int, values: list[Any]) -> None:
    sound: dict[int, list[Any] | str] = {33550: [1.0, 1.0, 0.0], 33922: [0.0] * 6}
    assert georeference(sound) is not None
    assert georeference({**sound, code: values}) is None


def test_a_level_says_how_large_its_pixels_are(opened: Opened) -> None:
    levels = opened("ome.tif")[0].levels
    assert [level.scale for level in levels] == [
        (1.0, 1.0), (83 / 42, 109 / 55), (83 / 21, 109 / 28),
    ]  # fmt: skip


@pytest.mark.parametrize("packing", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_members_of_an_archive_are_read_by_region(tmp_path: Path, packing: int) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w", packing) as archive:
        archive.writestr("in/a.tif", FILES["tiled.tif"]())
    (ref,) = list_collection(str(tmp_path / "a.zip"))
    with Reader(Limits()) as reader, open_regions(ref) as source:
        whole = reader.read(ref).pixels
        np.testing.assert_array_equal(source.read(Box(5, 6, 70, 80)), whole[5:70, 6:80])
    with pytest.raises(InputError, match=r"in/a\.tif: a member .* the limit is 1,000"):
        open_regions(ref, RegionLimits(memory_bytes=1000))


def test_objects_in_a_bucket_are_read_by_region(s3: str) -> None:
    address = new_address()
    bucket, prefix = split_object_uri(address)
    obstore.put(connect(bucket, Patience()), f"{prefix}/a.tif", FILES["big_tiled.tif"]())
    (ref,) = list_collection(address)
    with Reader(Limits()) as reader, open_regions(ref) as source:
        whole = reader.read(ref).pixels
        np.testing.assert_array_equal(source.read(Box(5, 6, 70, 80)), whole[5:70, 6:80])
