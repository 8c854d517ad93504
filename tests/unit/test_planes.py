"""Addresses of planes: what is named, in one way, and what is not there."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segpipe.errors import InputError, Reason
from segpipe.readers.planes import Extent, Plane, parse_plane, plane_ref, planes, split_plane
from segpipe.records import ImageRef

INDEX = st.integers(0, 999_999_999)
CHANNELS = st.none() | st.lists(INDEX, min_size=1, max_size=64, unique=True).map(tuple)


@given(st.builds(Plane, INDEX, INDEX, CHANNELS))
def test_a_plane_is_named_and_found_again(plane: Plane) -> None:
    assert parse_plane(plane.fragment) == plane
    assert split_plane(f"file:///a/b%23.tif#{plane.fragment}") == ("file:///a/b%23.tif", plane)


@pytest.mark.parametrize(
    ("fragment", "plane"),
    [
        ("z=3", Plane(z=3)),
        ("t=2", Plane(t=2)),
        ("c=1,2,t=4", Plane(t=4, c=(1, 2))),
        ("c=2,0,z=1", Plane(z=1, c=(2, 0))),
        ("t=007", Plane(t=7)),
    ],
)
def test_axes_come_in_any_order_and_are_the_first_where_they_are_not_named(
    fragment: str, plane: Plane
) -> None:
    assert parse_plane(fragment) == plane


@pytest.mark.parametrize(
    "fragment",
    ["", "z", "3", "z=", "z=-1", "z=1.5", "z=1,2", "z=1,z=2", "c=", "c=1,", "c=1,1", "x=1", "zz=1",
     "Z=1", "z=1;t=2", "z=²", "c=" + ",".join(map(str, range(65))), "z=1000000000", " z=1"],
)  # fmt: skip
def test_what_names_no_plane_is_refused(fragment: str) -> None:
    with pytest.raises(InputError, match=r"no plane, such as #z=3,t=0,c=1,2") as refused:
        split_plane(f"file:///a.tif#{fragment}")
    assert refused.value.reason is Reason.NOT_FOUND


def test_a_uri_without_a_fragment_names_none() -> None:
    assert split_plane("file:///a%23z=1.tif") == ("file:///a%23z=1.tif", None)


@pytest.mark.parametrize(
    ("plane", "message"),
    [
        (Plane(z=5), "z=5; the image has z=0 to 4"),
        (Plane(t=1), "t=1; the image has t=0 to 0"),
        (Plane(c=(0, 3)), "c=3; the image has c=0 to 2"),
    ],
)
def test_an_index_that_is_not_there_is_told_with_those_that_are(plane: Plane, message: str) -> None:
    with pytest.raises(InputError, match=message):
        plane.within(Extent(z=5, t=1, c=3))


@given(st.builds(Extent, *[st.integers(1, 5)] * 3))
def test_every_plane_of_an_image_comes_once_and_is_within_it(extent: Extent) -> None:
    found = list(planes(extent))
    assert len(set(found)) == len(found) == extent.z * extent.t
    assert [plane.within(extent) for plane in found] == found


def test_each_plane_is_an_image_of_its_own() -> None:
    ref = ImageRef("file:///a%23.tif", "a#.tif", 10, 20)
    refs = [plane_ref(ref, plane) for plane in planes(Extent(2, 2, 3), (1, 2))]
    assert len({one.image_id for one in refs} | {ref.image_id}) == 5
    assert refs[1].uri == "file:///a%23.tif#z=1,t=0,c=1,2"
    assert refs[1].path == "a#.tif#z=1,t=0,c=1,2"
    assert (refs[1].size_bytes, refs[1].mtime_ns) == (10, 20)
    assert plane_ref(refs[1], Plane()).uri == "file:///a%23.tif#z=0,t=0"
    assert plane_ref(refs[1], Plane()).path == "a#.tif#z=0,t=0"


def test_planes_of_channels_that_are_not_there_are_refused() -> None:
    with pytest.raises(InputError, match=r"c=3; the image has c=0 to 2"):
        list(planes(Extent(2, 2, 3), (3,)))
