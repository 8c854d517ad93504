"""Slides, read by OpenSlide; where it is not installed, what to install is told."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile

from segpipe.errors import InputError, Reason
from segpipe.geometry import Box
from segpipe.readers.regions import open_regions
from tests.bad_images import photo
from tests.region_files import ref_to, write

ABOUT = "Aperio Image Library v11.2.1\r\n480x640|AppMag = 20|MPP = 0.25"


def slide(path: Path) -> np.ndarray:
    """An Aperio slide of two levels and a thumbnail between them."""
    whole = photo(480, 640)
    tiled = {"photometric": "rgb", "tile": (240, 240), "compression": "deflate", "metadata": None}
    with tifffile.TiffWriter(path) as writer:
        writer.write(whole, description=ABOUT, **tiled)
        writer.write(whole[::8, ::8], photometric="rgb", description=ABOUT, metadata=None)
        writer.write(whole[::4, ::4], description=ABOUT, **tiled)
    return whole


def test_a_slide_is_read_by_region(tmp_path: Path) -> None:
    pytest.importorskip("openslide")
    whole = slide(tmp_path / "a.svs")
    with open_regions(ref_to(tmp_path / "a.svs")) as source:
        assert [level.shape for level in source.levels] == [(480, 640), (120, 160)]
        assert source.levels[1].scale == (4.0, 4.0)
        assert source.pixel_size_um == (0.25, 0.25)
        assert source.header.shape == (480, 640)
        for box in (Box(0, 0, 480, 640), Box(17, 230, 300, 251), Box(479, 639, 480, 640)):
            np.testing.assert_array_equal(source.read(box), whole[box.slices])
        box = Box(7, 11, 100, 160)
        np.testing.assert_array_equal(source.read(box, 1), whole[::4, ::4][box.slices])


def test_a_damaged_slide_has_a_reason(tmp_path: Path) -> None:
    pytest.importorskip("openslide")
    slide(tmp_path / "whole.svs")
    data = (tmp_path / "whole.svs").read_bytes()
    for name, damaged in (("cut.svs", data[:9000]), ("text.svs", b"no slide"), ("0.svs", b"")):
        path = write(tmp_path / name, damaged)
        with (
            pytest.raises(InputError, match=name) as refused,
            open_regions(ref_to(path)) as source,
        ):
            source.read(Box(0, 0, 480, 640))
        assert refused.value.reason in {Reason.CORRUPT, Reason.UNSUPPORTED_FORMAT, Reason.TRUNCATED}


def test_what_to_install_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openslide", None)
    slide(tmp_path / "a.svs")
    with pytest.raises(InputError, match=r"pip install 'segpipe\[slides\]'") as refused:
        open_regions(ref_to(tmp_path / "a.svs"))
    assert refused.value.reason is Reason.UNSUPPORTED_FORMAT
