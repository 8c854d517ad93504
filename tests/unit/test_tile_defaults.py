"""How images are cut where nobody says: by what a model's small images are like."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segpipe.errors import SpecError
from segpipe.segmenters.catalog import resolve_model
from segpipe.segmenters.tile_defaults import tiles_of
from segpipe.spec import ClassicalOptions, DetectorOptions, RCNNOptions, TileOptions, Tiles


def test_only_models_that_look_at_parts_have_tiles() -> None:
    assert tiles_of(TileOptions(), ClassicalOptions(), None) is None
    assert tiles_of(TileOptions(), RCNNOptions(), None) is None
    assert resolve_model("unet-nuclei", "a test").spec.tiles == Tiles(
        side=2240, halo=None, max_image_pixels=1 << 31
    )


def test_a_detector_looks_at_parts_as_at_small_images() -> None:
    """256 pixels of a field of nuclei, or 480 of a photograph, are brought to `min_size`."""
    nuclei = resolve_model("mask-rcnn-nuclei", "a test").spec.tiles
    assert nuclei == Tiles(side=672, halo=None, max_image_pixels=1 << 31, magnification=512 / 256)
    photographs = tiles_of(TileOptions(), DetectorOptions(), None)
    assert photographs == Tiles(
        side=768, halo=None, max_image_pixels=1 << 31, magnification=800 / 480
    )


@given(
    st.integers(32, 8192), st.integers(32, 8192),
    st.none() | st.integers(4, 60), st.none() | st.integers(1, 40),
    st.none() | st.floats(1 / 64, 16),
)  # fmt: skip
def test_any_detector_can_be_cut(
    min_size: int, max_size: int, side: int | None, halo: int | None, magnification: float | None
) -> None:
    """Unless somebody asks for a side of fewer than three halos."""
    options = DetectorOptions(min_size=min_size, max_size=max_size)
    asked = TileOptions(
        side=side and side * 32, halo=halo and halo * 32, magnification=magnification
    )
    if side and halo and side < 3 * halo:
        with pytest.raises(SpecError, match="at least three halos"):
            tiles_of(asked, options, None)
        return
    tiles = tiles_of(asked, options, None)
    assert tiles is not None
    assert tiles.side % 32 == 0
    assert asked.side in (None, tiles.side)
    assert asked.halo == tiles.halo
    assert asked.magnification in (None, tiles.magnification)
    assert tiles.magnification


def test_a_magnification_is_not_for_u_nets() -> None:
    with pytest.raises(SpecError, match=r"magnification = 2.*object_diameter"):
        resolve_model("unet-nuclei", "a test", tiles={"magnification": 2})
