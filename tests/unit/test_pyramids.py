"""Masks of one large image: written block by block, read by zarr-python, by parts and by levels."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from segpipe.errors import InvariantError
from segpipe.geometry import Box
from segpipe.store.files import LocalFiles
from segpipe.store.masks import MaskStack
from segpipe.store.ome_zarr import centres
from segpipe.store.pyramids import PyramidWriter, blocks


def scene(shape: tuple[int, int], seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    labels = np.zeros(shape, np.uint32)
    for _ in range(6):
        y, x = rng.integers(0, shape[0]), rng.integers(0, shape[1])
        labels[y : y + 300, x : x + 300] = rng.integers(1, 1 << 32, dtype=np.uint32)
    return labels


def write(root: Path, labels: np.ndarray) -> list[str]:
    writer = PyramidWriter(
        LocalFiles(root), "m", labels.shape, {"label_image": np.uint32, "semantic": np.uint8}
    )
    for block in blocks(labels.shape):
        part = labels[block.slices]
        writer.write(block, {"label_image": part, "semantic": (part > 0).astype(np.uint8)})
    return sorted(writer.close())


@given(st.tuples(st.integers(1, 5000), st.integers(1, 5000)), st.integers(0, 2**32 - 1))
@settings(max_examples=12)
def test_each_level_shows_the_pixels_nearest_to_its_centres(
    shape: tuple[int, int], seed: int
) -> None:
    labels = scene(shape, seed)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        written = write(root, labels)
        assert sorted(str(f.relative_to(root)) for f in root.rglob("*") if f.is_file()) == written
        group = zarr.open_group(root / "m/label_image", mode="r")
        datasets = group.attrs["ome"]["multiscales"][0]["datasets"]
        for level, dataset in enumerate(datasets):
            array = group[dataset["path"]]
            wanted = labels[np.ix_(*(centres(size, 2**level) for size in shape))]
            assert array.shards is not None
            np.testing.assert_array_equal(array[:], wanted)
            stack = MaskStack(LocalFiles(root), f"m/label_image/{level}")
            np.testing.assert_array_equal(stack.read(None, wanted.shape), wanted)
            part = Box(0, 0, *wanted.shape).intersect(Box(7, 5, 1500, 1100))
            if not part.empty:
                found = stack.read(None, wanted.shape, part)
                np.testing.assert_array_equal(found, wanted[part.slices])
        assert max(wanted.shape) <= 256
        semantic = zarr.open_array(root / "m/semantic/0", mode="r")
        np.testing.assert_array_equal(semantic[:], labels > 0)


def test_blocks_cover_each_pixel_once() -> None:
    seen = np.zeros((5000, 2049), np.uint8)
    for block in blocks(seen.shape):
        seen[block.slices] += 1
    assert (seen == 1).all()


def test_an_image_with_a_block_missing_is_not_closed(tmp_path: Path) -> None:
    writer = PyramidWriter(LocalFiles(tmp_path), "m", (3000, 100), {"label_image": np.uint32})
    first = next(blocks((3000, 100)))
    writer.write(first, {"label_image": np.zeros((first.height, 100), np.uint32)})
    with pytest.raises(InvariantError, match="not all blocks"):
        writer.close()
