"""How images over the tile budget are cut, where nobody says: what suits the model.

Halos are those that the objects of each image ask for (`segpipe.large.cut`).
"""

from __future__ import annotations

from typing import NamedTuple

from segpipe.errors import SpecError
from segpipe.segmenters.weights import WeightsHeader
from segpipe.spec import DetectorOptions, Options, TileOptions, Tiles, UNetOptions, parse

_TILE_SIDE = 2240
"""What a U-Net looks at at a time: of smaller ones more is halo, larger ones take more memory."""

_LARGEST_TILE = 4096


class _Usual(NamedTuple):
    """What a detector's small images are like, pixels.

    Attributes:
        side: the shorter one, which is brought to `min_size`.
        halo: more than most of their objects measure; a side has room for it.
    """

    side: int
    halo: int


_OWN = _Usual(side=256, halo=96)
"""Of training crops, and of most fields of nuclei: 999 of 1000 nuclei measure up to 96 pixels."""

_PHOTOGRAPHS = _Usual(side=480, halo=192)
"""Of COCO."""


def tiles_of(asked: TileOptions, options: Options, header: WeightsHeader | None) -> Tiles | None:
    """How large images are cut; None for a model that has to see an image whole.

    The classical method and R-CNN choose thresholds and regions by all of an image.

    Raises:
        SpecError: a side, halo or magnification that does not fit the model.
    """
    match options:
        case UNetOptions():
            chosen = _unet_tiles(asked, header)
        case DetectorOptions():
            chosen = _detector_tiles(asked, options, _OWN if header else _PHOTOGRAPHS)
        case _:
            return None
    return parse(Tiles, {**chosen, "max_image_pixels": asked.max_image_pixels}, "tiles")


def _unet_tiles(asked: TileOptions, header: WeightsHeader | None) -> dict[str, object]:
    if asked.magnification is not None:
        raise SpecError(
            f"tiles: magnification = {asked.magnification}: it is for detectors; a U-Net looks at "
            "parts in one that it chooses by the objects (options.object_diameter)"
        )
    most = header.tile.max_side if header else _TILE_SIDE
    side = asked.side or min(_TILE_SIDE, most // 32 * 32)
    return {"side": side, "halo": asked.halo}


def _detector_tiles(
    asked: TileOptions, options: DetectorOptions, usual: _Usual
) -> dict[str, object]:
    """Objects look as large as in a small image, and a tile as large as the largest of these."""
    rule = min(options.min_size, options.max_size) / usual.side
    magnification = asked.magnification or rule
    least = 3 * (asked.halo or usual.halo)
    most = min(_LARGEST_TILE, int(options.max_size / magnification) // 32 * 32)
    side = asked.side or max(least, most)
    return {"side": side, "halo": asked.halo, "magnification": magnification}
