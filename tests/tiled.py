"""Segmenters that know the truth, tile by tile: an ideal one, and one whose tiles disagree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st
from scipy import ndimage

from segpipe.geometry import Box
from segpipe.planning.tiles import Tile
from segpipe.records import CroppedMask, Instances


@dataclass(frozen=True, eq=False)
class Thing:
    """A true object: its pixels (H, W) in the image, its class and the score that it deserves."""

    pixels: np.ndarray
    class_id: int
    score: float


def crop(pixels: np.ndarray, window: Box) -> CroppedMask | None:
    """What of an object lies in a window; None for nothing."""
    seen = pixels[window.slices]
    rows, columns = np.flatnonzero(seen.any(1)), np.flatnonzero(seen.any(0))
    if not len(rows):
        return None
    (top, bottom), (left, right) = rows[[0, -1]], columns[[0, -1]]
    inside = seen[top : bottom + 1, left : right + 1].copy()
    return CroppedMask(int(window.y0 + top), int(window.x0 + left), inside)


def answer(things: Sequence[Thing], window: Box) -> Instances:
    """What a segmenter says that sees these things, cut at the edges of its window."""
    crops = [crop(thing.pixels, window) for thing in things]
    found = [(thing, mask) for thing, mask in zip(things, crops, strict=True) if mask]
    found.sort(key=lambda pair: -pair[0].score)
    return Instances(
        tuple(mask for _, mask in found),
        np.array([thing.score for thing, _ in found], np.float32),
        np.array([thing.class_id for thing, _ in found], np.int32),
    )


def shrunk(pixels: np.ndarray) -> np.ndarray:
    """Without the pixels at its border."""
    return ndimage.binary_erosion(pixels, border_value=1)


def widened(pixels: np.ndarray) -> np.ndarray:
    """With the pixels around it."""
    return ndimage.binary_dilation(pixels)


def solid(pixels: np.ndarray) -> bool:
    """Whether a pixel more or less at its border leaves an IoU well above 0.8."""
    return shrunk(pixels).sum() > 0.85 * pixels.sum() > 0.85**2 * widened(pixels).sum()


def jittered(things: Sequence[Thing], tile: Tile, rng: np.random.Generator) -> Instances:
    """Borders move by a pixel, in or out, and scores a little, differently in each tile."""
    moved = []
    for thing in things:
        pixels = (shrunk, widened, lambda same: same)[rng.integers(3)](thing.pixels)
        score = float(np.clip(thing.score + rng.uniform(-0.1, 0.1), 0, 1))
        moved.append(Thing(pixels, thing.class_id, score))
    return answer(moved, tile.grown)


def disc(shape: tuple[int, int], y: int, x: int, radius: int) -> np.ndarray:
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    return (rows - y) ** 2 + (columns - x) ** 2 <= radius**2


def bar(shape: tuple[int, int], y: int, x: int, height: int, width: int) -> np.ndarray:
    pixels = np.zeros(shape, np.bool_)
    pixels[max(0, y) : max(0, y + height), max(0, x) : max(0, x + width)] = True
    return pixels


@st.composite
def outlines(
    draw: st.DrawFn, shape: tuple[int, int], corners: Sequence[tuple[int, int]], thick: int
) -> list[np.ndarray]:
    """One object, or two that touch or lie in each other; often on a corner of four tiles.

    Args:
        corners: (y, x) of borders between tiles.
        thick: the least width of any of its parts.
    """
    if corners and draw(st.booleans()):
        y, x = draw(st.sampled_from(list(corners)))
        y, x = y + draw(st.integers(-thick, thick)), x + draw(st.integers(-thick, thick))
    else:
        y, x = (draw(st.integers(0, side - 1)) for side in shape)
    radius = draw(st.integers(thick, 2 * thick))
    long = draw(st.integers(2 * thick, 8 * thick))
    kind = draw(st.sampled_from(["disc", "bar", "column", "ring", "L", "touching", "inside"]))
    match kind:
        case "disc":
            return [disc(shape, y, x, radius)]
        case "bar":
            return [bar(shape, y, x - long // 2, thick, long)]
        case "column":
            return [bar(shape, y - long // 2, x, long, thick)]
        case "ring":
            return [disc(shape, y, x, radius + thick) & ~disc(shape, y, x, radius // 2)]
        case "L":
            return [bar(shape, y, x, long, thick) | bar(shape, y, x, thick, long)]
        case "touching":
            left = bar(shape, y, x - radius, long, radius)
            return [left, bar(shape, y, x, long, radius)]
        case _:
            inner = disc(shape, y, x, radius)
            outer = disc(shape, y, x, radius + 2 * thick)
            return [inner, outer if draw(st.booleans()) else outer & ~inner]


def biggest_part(pixels: np.ndarray) -> np.ndarray:
    """An object that the image's border cuts in two is taken to be its larger part."""
    parts, count = ndimage.label(pixels)
    if count < 2:
        return pixels
    return parts == 1 + np.argmax(np.bincount(parts.ravel())[1:])


@st.composite
def things(
    draw: st.DrawFn,
    shape: tuple[int, int],
    corners: Sequence[tuple[int, int]],
    thick: int,
    apart: int | None = None,
) -> list[Thing]:
    """Objects of two classes, with scores that differ.

    Args:
        apart: objects drawn independently keep this distance, in pixels, and are `solid`;
            None: they may overlap and be of any size.
    """
    drawn = draw(st.lists(outlines(shape, corners, thick), max_size=5))
    kept: list[np.ndarray] = []
    taken = np.zeros(shape, np.bool_)
    for together in drawn:
        pixels = [biggest_part(one) for one in together if one.any()]
        if apart is not None and not all(map(solid, pixels)):
            continue
        union = np.logical_or.reduce(pixels) if pixels else np.zeros(shape, np.bool_)
        if apart is not None:
            if (taken & union).any():
                continue
            taken |= ndimage.binary_dilation(union, iterations=apart)
        kept += pixels
    class_ids = [draw(st.integers(1, 2)) for _ in kept]
    scores = np.linspace(0.95, 0.5, len(kept))
    return [
        Thing(pixels, class_id, float(np.float32(score)))
        for pixels, class_id, score in zip(kept, class_ids, scores, strict=True)
    ]


def as_set(objects: Instances) -> list[tuple]:
    """Objects as something that compares: pixels, class and score, in a fixed order."""
    found = []
    for mask, score, class_id in zip(objects.masks, objects.scores, objects.class_ids, strict=True):
        ys, xs = np.nonzero(mask.mask)
        pixels = tuple(zip((ys + mask.y0).tolist(), (xs + mask.x0).tolist(), strict=True))
        found.append((float(score), int(class_id), pixels))
    return sorted(found)


def dense(mask: CroppedMask, shape: tuple[int, int]) -> np.ndarray:
    """(H, W): a mask in its image."""
    full = np.zeros(shape, np.bool_)
    height, width = mask.mask.shape
    full[mask.y0 : mask.y0 + height, mask.x0 : mask.x0 + width] = mask.mask
    return full
