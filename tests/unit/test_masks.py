"""Stacks of masks: written here and read by plain zarr-python, and the other way round."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from zarr.codecs import ZstdCodec

from segpipe.errors import StoreError
from segpipe.geometry import Box
from segpipe.planning.shapes import stack_layout
from segpipe.store.files import LocalFiles
from segpipe.store.masks import LabelOverflowError, MaskStack, MaskWriter
from segpipe.store.shards import Shard, pack

SHAPES = {
    "one shard": [(5, 7), (4, 9), (5, 9)],
    "several shards": [(3, 4)] * 70,
    "several tiles": [(1500, 1100), (1024, 1024), (40, 2100)],
    "several shards in a plane": [(1100, 9000), (10, 10)],
}

Planes = list[npt.NDArray[np.uint32]]


def planes(shapes: list[tuple[int, int]]) -> Planes:
    """Masks with labels here and there; some images have none at all."""
    rng = np.random.default_rng(len(shapes))
    made = []
    for index, shape in enumerate(shapes):
        plane = np.zeros(shape, np.uint32)
        for _ in range(3 * (index % 4 != 1)):
            y, x = rng.integers(0, shape[0]), rng.integers(0, shape[1])
            plane[y : y + 50, x : x + 50] = rng.integers(1, 200)
        made.append(plane)
    return made


def write(root: Path, images: Planes, dtype: type[np.unsignedinteger]) -> list[str]:
    """Into the group `m`; the paths that were written."""
    shapes = [image.shape for image in images]
    writer = MaskWriter(LocalFiles(root), "m", shapes, {"label_image": dtype})
    assert [writer.append({"label_image": image}) for image in images] == [*range(len(images))]
    return sorted(writer.close())


def assert_read(root: Path, images: Planes) -> None:
    stack = MaskStack(LocalFiles(root), "m/label_image")
    for index in reversed(range(len(images))):
        np.testing.assert_array_equal(stack.read(index, images[index].shape), images[index])


@given(st.tuples(st.integers(1, 2300), st.integers(1, 2300)), st.data(), st.integers(0, 2**32 - 1))
@settings(max_examples=15, deadline=None)
def test_a_part_is_that_part_of_the_whole(
    shape: tuple[int, int], data: st.DataObject, seed: int
) -> None:
    y0, x0 = (data.draw(st.integers(0, size - 1)) for size in shape)
    y1, x1 = (
        data.draw(st.integers(low + 1, size)) for low, size in zip((y0, x0), shape, strict=True)
    )
    image = np.random.default_rng(seed).integers(0, 9, shape, np.uint16)
    part = Box(y0, x0, y1, x1)
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), [image, image[::-1]], np.uint16)
        stack = MaskStack(LocalFiles(Path(folder)), "m/label_image")
        np.testing.assert_array_equal(stack.read(0, shape, part), image[part.slices])
        np.testing.assert_array_equal(stack.read(1, shape, part), image[::-1][part.slices])


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32])
@pytest.mark.parametrize("shapes", SHAPES.values(), ids=SHAPES)
def test_plain_zarr_reads_what_is_written(tmp_path: Path, shapes, dtype) -> None:
    images = planes(shapes)
    write(tmp_path, images, dtype)
    array = zarr.open_group(str(tmp_path / "m"), mode="r", zarr_format=3)["label_image"]
    assert array.shape == stack_layout(shapes, np.dtype(dtype).itemsize).shape
    assert array.dtype == dtype
    for index, image in enumerate(images):
        height, width = image.shape
        np.testing.assert_array_equal(array[index, :height, :width], image)
        assert not array[index, height:].any()
        assert not array[index, :, width:].any()
    assert_read(tmp_path, images)


@pytest.mark.parametrize("shapes", SHAPES.values(), ids=SHAPES)
def test_what_zarr_wrote_is_read(tmp_path: Path, shapes) -> None:
    """Older stores were written by zarr-python itself."""
    images, layout = planes(shapes), stack_layout(shapes, 4)
    array = zarr.create_array(
        str(tmp_path / "m" / "label_image"),
        shape=layout.shape,
        dtype=np.uint32,
        chunks=layout.chunk,
        shards=layout.shard,
        compressors=ZstdCodec(level=3),
        fill_value=0,
    )
    for index, image in enumerate(images):
        array[index, : image.shape[0], : image.shape[1]] = image
    assert_read(tmp_path, images)


def test_fewer_images_than_planned_and_none_at_all(tmp_path: Path) -> None:
    for count in (0, 40):
        writer = MaskWriter(LocalFiles(tmp_path), f"{count}", [(4, 4)] * 70, {"semantic": np.uint8})
        for _ in range(count):
            writer.append({"semantic": np.ones((4, 4), np.uint8)})
        writer.close()
        array = zarr.open_array(str(tmp_path / f"{count}" / "semantic"), mode="r")
        assert array.shape == (count, 4, 4)
        assert array[:].all()


def test_what_holds_no_label_is_not_stored(tmp_path: Path) -> None:
    images = [np.zeros((1100, 9000), np.uint32)]
    images[0][0, 8500] = 3
    paths = write(tmp_path, images, np.uint32)
    stored = [path for path in paths if "/c/" in path]
    assert len(stored) == 1
    assert (tmp_path / stored[0]).stat().st_size < 10_000
    assert_read(tmp_path, images)


def test_label_that_the_type_cannot_hold_is_refused(tmp_path: Path) -> None:
    write(tmp_path, [np.full((2, 2), 65_535, np.uint32)], np.uint16)
    with pytest.raises(LabelOverflowError, match="65536 exceeds 65535"):
        write(tmp_path, [np.full((2, 2), 65_536, np.uint32)], np.uint16)


@pytest.mark.parametrize("damage", ["cut", "flipped index", "flipped pixels", "emptied"])
def test_damaged_file_is_named(tmp_path: Path, damage: str) -> None:
    (path,) = (p for p in write(tmp_path, planes([(60, 60)]), np.uint16) if "/c/" in p)
    data = bytearray((tmp_path / path).read_bytes())
    match damage:
        case "cut":
            del data[-9:]
        case "flipped index":
            data[-12] ^= 1
        case "flipped pixels":
            data[0] ^= 1
        case "emptied":
            data.clear()
    (tmp_path / path).write_bytes(data)
    with pytest.raises(StoreError, match=f"{path}.*segpipe fsck"):
        MaskStack(LocalFiles(tmp_path), "m/label_image").read(0, (60, 60))


@settings(deadline=None)
@given(st.lists(st.none() | st.binary(min_size=1, max_size=20), min_size=1, max_size=40))
def test_a_shard_gives_back_its_chunks(chunks: list[bytes | None]) -> None:
    shard = Shard(pack(chunks), len(chunks))
    found = [shard.chunk(place) for place in range(len(chunks))]
    assert [None if chunk is None else bytes(chunk) for chunk in found] == chunks
