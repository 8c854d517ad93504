"""Maps of overlapping tiles to one map: each pixel a weighted mean of what the tiles say of it.

The weights are those of nnU-Net (Isensee et al., Nature Methods 2021; `compute_gaussian`): a
Gaussian about the middle of what a tile sees, with an eighth of its side as standard deviation, so
that the middle counts most and the rim, where the network lacks surroundings, least. nnU-Net adds
up the weights of all tiles in a second array and divides in the end. Here tiles form a grid and a
Gaussian is a product of two, so the sum is one too: weights are divided by it along each axis
beforehand, and any region can be finished by itself, as soon as the tiles that see it are there.

Probabilities and logits are blended alike. `core_weights` is the alternative: every pixel as its
own tile has it, exactly, with a step at the border.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import numpy.typing as npt

from segpipe.errors import InvariantError
from segpipe.geometry import Box
from segpipe.planning.tiles import Tile, Tiling

FloatMap = npt.NDArray[np.float32]
Float64s = npt.NDArray[np.float64]

Weights = Callable[[Tiling, Tile], FloatMap]
"""Weights (h, w) of all that a tile sees; those of all tiles add up to 1 at every pixel."""

SIGMA = 1 / 8
"""Standard deviation of a Gaussian, in units of the side of what a tile sees."""

_ROUNDING = 1e-5
"""By which a sum of weights, of float32, may differ from 1."""


def gaussian_weights(tiling: Tiling, tile: Tile) -> FloatMap:
    """(h, w) of `tile.grown`, in (0, 1]: falling off from its middle as its neighbours' rise."""
    down = _along(tiling.row_borders, tiling.halo, tile.row)
    across = _along(tiling.column_borders, tiling.halo, tile.column)
    return np.outer(down, across).astype(np.float32)


def core_weights(tiling: Tiling, tile: Tile) -> FloatMap:
    """(h, w) of `tile.grown`: 1 in its core, 0 in its halo."""
    del tiling
    weights = np.zeros((tile.grown.height, tile.grown.width), np.float32)
    weights[tile.core.shift(-tile.grown.y0, -tile.grown.x0).slices] = 1
    return weights


def blend(
    tiling: Tiling,
    region: Box,
    maps: Iterable[tuple[Tile, FloatMap]],
    weights: Weights = gaussian_weights,
) -> FloatMap:
    """The map of a region, such as a tile's core, from all tiles that see a part of it.

    Args:
        tiling: of the image.
        region: inside the image, with at least one pixel.
        maps: (C, h, w) float32 of what each tile sees, in any order; one at least, each once.
        weights: `gaussian_weights` or `core_weights`.

    Returns:
        (C, height, width) float32. Sums are in the order of the tiles' numbers, whatever the order
        in which they come.

    Raises:
        InvariantError: a tile is missing, or a map is not of what its tile sees.
    """
    ordered = sorted(maps, key=lambda pair: tiling.number(pair[0]))
    if not ordered:
        raise InvariantError(f"no maps for {region}")
    total = np.zeros((len(ordered[0][1]), region.height, region.width), np.float64)
    weight = np.zeros(total.shape[1:], np.float64)
    for tile, values in ordered:
        if values.shape[1:] != (tile.grown.height, tile.grown.width):
            raise InvariantError(f"a map of shape {values.shape} for {tile.grown}")
        common = region.intersect(tile.grown)
        if common.empty:
            continue
        there = common.shift(-tile.grown.y0, -tile.grown.x0).slices
        here = common.shift(-region.y0, -region.x0).slices
        share = weights(tiling, tile)[there]
        total[:, *here] += share * values[:, *there]
        weight[here] += share
    if np.abs(weight - 1).max() > _ROUNDING:
        raise InvariantError(
            f"weights add up to {weight.min():.3f} to {weight.max():.3f} in {region}: "
            f"not every tile that sees it came once ({len(ordered)} came)"
        )
    return (total / weight).astype(np.float32)


def _along(borders: tuple[int, ...], halo: int, index: int) -> Float64s:
    """Along one axis: the weights of one tile in what it sees, divided by the sum of all tiles'."""
    low, high = _seen(borders, halo, index)
    place = np.arange(low, high)
    mine = np.zeros(high - low)
    total = np.zeros(high - low)
    for other in range(len(borders) - 1):
        start, end = _seen(borders, halo, other)
        if start >= high or end <= low:
            continue
        values = np.where(
            (place >= start) & (place < end), _gaussian(borders, halo, other, place), 0
        )
        total += values
        if other == index:
            mine = values
    return mine / total


def _seen(borders: tuple[int, ...], halo: int, index: int) -> tuple[int, int]:
    return max(0, borders[index] - halo), min(borders[-1], borders[index + 1] + halo)


def _gaussian(
    borders: tuple[int, ...], halo: int, index: int, place: npt.NDArray[np.int64]
) -> Float64s:
    """About the middle of a core, whose halo may reach out of the image."""
    start, end = borders[index], borders[index + 1]
    sigma = SIGMA * (end - start + 2 * halo)
    distance = (place - (start + end - 1) / 2) / sigma
    return np.asarray(np.exp(-0.5 * distance**2))
