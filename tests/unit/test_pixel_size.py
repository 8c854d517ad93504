"""How large a pixel is, as a TIFF says it; and what is measured, in micrometres."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from skimage.measure import label, regionprops

from segpipe.measure.physical import IN_MICROMETRES, in_micrometres
from segpipe.readers import Reader
from segpipe.readers.regions import open_regions
from segpipe.records import Header
from segpipe.spec import Limits
from tests.region_files import encoded, ref_to, rgb, write

GREY = np.arange(20 * 30, dtype=np.uint16).reshape(20, 30)


def header(path: Path) -> Header:
    """By the reader; by region it is the same."""
    with Reader(Limits()) as reader, open_regions(ref_to(path)) as source:
        found = reader.header(ref_to(path))
        assert source.header == found
    return found


def size_of(tmp_path: Path, **options: object) -> tuple[float, float] | None:
    tifffile.imwrite(tmp_path / "a.tif", GREY, **options)
    return header(tmp_path / "a.tif").pixel_size_um


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("bigtiff", [False, True])
@pytest.mark.parametrize(
    ("options", "size"),
    [
        ({}, None),
        ({"resolution": (300, 300), "resolutionunit": "INCH"}, None),
        ({"resolution": (1200, 1200), "resolutionunit": "INCH"}, None),
        ({"resolution": (40_000, 20_000), "resolutionunit": "CENTIMETER"}, (0.5, 0.25)),
        ({"resolution": (25_400, 25_400), "resolutionunit": "INCH"}, (1.0, 1.0)),
        ({"resolution": (900, 20_000), "resolutionunit": "CENTIMETER"}, None),
        ({"resolution": (4, 4), "resolutionunit": "NONE"}, None),
        ({"description": "Aperio Image|AppMag = 20|MPP = 0.499"}, (0.499, 0.499)),
        ({"description": "Aperio Image|MPP = nan"}, None),
        ({"description": "Aperio Image|MPP = 1e-30"}, None),
        ({"description": "Aperio Image|MPP = 1.2.3"}, None),
    ],
)
def test_what_a_tiff_says_of_the_object(
    tmp_path: Path,
    options: dict[str, object],
    size: tuple[float, float] | None,
    byteorder: str,
    bigtiff: bool,
) -> None:
    options = {"metadata": None, "byteorder": byteorder, "bigtiff": bigtiff, **options}
    found = size_of(tmp_path, **options)
    assert found == (None if size is None else pytest.approx(size))


@pytest.mark.parametrize(
    ("unit", "per_unit", "size"),
    [
        ("um", (4.0, 4.0), (0.25, 0.25)),
        ("micron", (4.0, 2.0), (0.5, 0.25)),
        ("\\u00B5m", (4.0, 4.0), (0.25, 0.25)),
        ("nm", (0.01, 0.01), (0.1, 0.1)),
        ("mm", (20.0, 20.0), (50.0, 50.0)),
        ("inch", (300.0, 300.0), None),
        ("pixel", (1.0, 1.0), None),
        ("parsec", (1.0, 1.0), None),
    ],
)
def test_what_imagej_says(
    tmp_path: Path, unit: str, per_unit: tuple[float, float], size: tuple[float, float] | None
) -> None:
    found = size_of(tmp_path, imagej=True, resolution=per_unit, metadata={"unit": unit})
    assert found == (None if size is None else pytest.approx(size))


def test_an_imagej_file_without_a_unit_says_nothing(tmp_path: Path) -> None:
    said = {"resolution": (40_000, 40_000), "resolutionunit": "CENTIMETER"}
    assert size_of(tmp_path, imagej=True, **said) is None


@pytest.mark.parametrize(
    ("change", "size"),
    [
        (("", ""), (0.25, 0.5)),
        (('SizeX="30"', 'SizeX="31"'), None),
        (('PhysicalSizeX="500.0"', 'PhysicalSizeX="-5"'), None),
        (('PhysicalSizeX="500.0"', 'PhysicalSizeX="inf"'), None),
        (('PhysicalSizeX="500.0"', 'PhysicalSizeX="1e300"'), None),
        (('PhysicalSizeXUnit="nm"', 'PhysicalSizeXUnit="pixel"'), None),
        (("<Image ", "<Image <"), None),
        (("<OME", "<!DOCTYPE x [<!ENTITY a 'b'>]><OME"), None),
        (("</OME>", ""), (0.25, 0.5)),
    ],
)
def test_what_ome_xml_says(
    tmp_path: Path, change: tuple[str, str], size: tuple[float, float] | None
) -> None:
    whole = tmp_path / "whole.tif"
    metadata = {
        "axes": "YX",
        "PhysicalSizeY": 0.25,
        "PhysicalSizeX": 500.0,
        "PhysicalSizeXUnit": "nm",
    }
    tifffile.imwrite(whole, GREY, ome=True, metadata=metadata)
    with tifffile.TiffFile(whole) as file:
        text = file.ome_metadata
    assert text is not None
    if change[0]:
        assert change[0] in text
        text = text.replace(*change)
    tifffile.imwrite(tmp_path / "a.tif", GREY, description=text, metadata=None)
    with Reader(Limits()) as reader:
        found = reader.read(ref_to(tmp_path / "a.tif"))
    np.testing.assert_array_equal(found.pixels[..., 0], GREY)
    assert found.header.pixel_size_um == (None if size is None else pytest.approx(size))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_it_turns_with_the_image(tmp_path: Path, orientation: int) -> None:
    turned = orientation >= 5
    said = {"resolution": (40_000, 20_000), "resolutionunit": "CENTIMETER", "metadata": None}
    found = size_of(tmp_path, extratags=[(274, "H", 1, orientation, True)], **said)
    assert found == pytest.approx((0.25, 0.5) if turned else (0.5, 0.25))


def test_tags_that_lead_nowhere_do_no_harm(tmp_path: Path) -> None:
    said = {"resolution": (40_000, 40_000), "resolutionunit": "CENTIMETER", "metadata": None}
    tifffile.imwrite(tmp_path / "a.tif", GREY, **said)
    data = bytearray((tmp_path / "a.tif").read_bytes())
    (first,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, first)
    for entry in range(first + 2, first + 2 + 12 * count, 12):
        if struct.unpack_from("<H", data, entry)[0] == 282:
            struct.pack_into("<I", data, entry + 8, 0xFFFF_FFF0)
    with Reader(Limits()) as reader:
        assert reader.header(ref_to(write(tmp_path / "b.tif", bytes(data)))).pixel_size_um is None


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_dots_per_inch_are_of_paper(tmp_path: Path, kind: str) -> None:
    data = encoded(Image.fromarray(rgb()), kind, dpi=(25_400, 25_400))
    assert header(write(tmp_path / f"a.{kind}", data)).pixel_size_um is None


SIDES = st.floats(1e-3, 1e3)


def measures() -> dict[str, np.ndarray]:
    return {
        "area": np.array([1, 7, 1 << 33]),
        "centroid_y": np.array([0.0, 2.5, 1e4]),
        "centroid_x": np.array([3.0, 0.0, 1e5]),
        "perimeter": np.array([0.0, 6.5, 4e5], np.float32),
    }


@given(SIDES, SIDES)
def test_areas_and_places_are_exact_and_lengths_need_square_pixels(y: float, x: float) -> None:
    found, pixels = in_micrometres(measures(), (y, x)), measures()
    np.testing.assert_allclose(found["area_um2"], pixels["area"] * y * x)
    np.testing.assert_allclose(found["centroid_y_um"], pixels["centroid_y"] * y)
    np.testing.assert_allclose(found["centroid_x_um"], pixels["centroid_x"] * x)
    if abs(y - x) > 0.01 * max(y, x):
        assert found["perimeter_um"] == [None] * 3
    else:
        np.testing.assert_allclose(found["perimeter_um"], pixels["perimeter"] * y, rtol=0.011)


def test_what_is_not_known_is_null() -> None:
    assert in_micrometres(measures(), None) == {name: [None] * 3 for name in IN_MICROMETRES}
    assert list(in_micrometres(measures(), (1, 1))) == list(IN_MICROMETRES)


@pytest.mark.parametrize("size", [0.3, 2.0])
def test_they_are_those_of_scikit_image(size: float) -> None:
    """With its `spacing`, whose perimeter is in the same units."""
    rng = np.random.default_rng(5)
    shape = label(rng.random((40, 40)) > 0.45)
    regions = regionprops(shape)
    pixels = {
        "area": np.array([region.area for region in regions]),
        "centroid_y": np.array([region.centroid[0] for region in regions]),
        "centroid_x": np.array([region.centroid[1] for region in regions]),
        "perimeter": np.array([region.perimeter for region in regions]),
    }
    found, spaced = in_micrometres(pixels, (size, size)), regionprops(shape, spacing=(size, size))
    np.testing.assert_allclose(found["area_um2"], [region.area for region in spaced])
    np.testing.assert_allclose(found["centroid_y_um"], [region.centroid[0] for region in spaced])
    np.testing.assert_allclose(found["centroid_x_um"], [region.centroid[1] for region in spaced])
    perimeters = [region.perimeter for region in spaced]
    np.testing.assert_allclose(found["perimeter_um"], perimeters, rtol=1e-6)
