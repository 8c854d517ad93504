"""The outline of a mask as polygons along the edges of its pixels: exact, and back again.

Coordinates are those of pixel corners: pixel (y, x) covers `[y, y + 1) x [x, x + 1)`, as in QuPath,
ImageJ and shapely's `box`. (A centroid of the `objects` table counts from the centre of the first
pixel; half a pixel lies between the two.)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from segpipe.compiled import compiled, readable
from segpipe.records import CroppedMask

Ring = npt.NDArray[np.int32]
"""(N, 2) x, y of its corners; the last one is not the first again. No corner occurs twice."""


@dataclass(frozen=True, slots=True, eq=False)
class Polygon:
    """A connected part of an object.

    Attributes:
        shell: clockwise, as one sees it (y points down).
        holes: counterclockwise; they may touch the shell, or each other, in single corners.
    """

    shell: Ring
    holes: tuple[Ring, ...]


def outline(mask: CroppedMask) -> tuple[Polygon, ...]:
    """One polygon for each 4-connected part, in the order of their first pixels, row by row.

    A pixel is in the mask exactly if its centre is inside a shell and in none of its holes.
    """
    parts, _ = ndimage.label(mask.mask)
    points, ends, starts = _trace(readable(mask.mask, np.bool_))
    shells: dict[int, Ring] = {}
    holes: dict[int, list[Ring]] = {}
    for begin, end, (y, x) in zip(np.append(0, ends)[:-1], ends, starts, strict=True):
        part = int(parts[y, x])
        for ring in _simple(points[begin:end]):
            placed = ring + np.array((mask.x0, mask.y0), np.int32)
            if _doubled_area(ring) > 0:
                shells[part] = placed
            else:
                holes.setdefault(part, []).append(placed)
    return tuple(Polygon(shells[part], tuple(holes.get(part, ()))) for part in sorted(shells))


def single_ring(polygons: tuple[Polygon, ...]) -> Ring:
    """All rings as one, for formats that know nothing else: bridges of no width join them.

    By the even-odd rule it covers what the polygons cover.

    Returns:
        (N, 2) x, y; corners occur more than once where there are several rings.
    """
    rings = [ring for one in polygons for ring in (one.shell, *one.holes)]
    first = rings[0]
    pieces = [first]
    if len(rings) > 1:
        pieces.append(first[:1])
        for ring in rings[1:]:
            pieces += [ring, ring[:1], first[:1]]
        pieces.pop()  # the polygon closes itself
    return np.concatenate(pieces)


def _simple(points: Ring) -> list[Ring]:
    """A closed walk, cut where it comes to a corner again."""
    rings: list[Ring] = []
    walked: list[tuple[int, int]] = []
    position: dict[tuple[int, int], int] = {}
    for x, y in points.tolist():
        corner = (x, y)
        if corner in position:
            back = position[corner]
            loop = walked[back:]
            rings.append(np.array(loop, np.int32))
            for left in loop:
                del position[left]
            del walked[back:]
        position[corner] = len(walked)
        walked.append(corner)
    rings.append(np.array(walked, np.int32))
    return rings


def _doubled_area(ring: Ring) -> int:
    """Positive if the ring is clockwise, as one sees it."""
    x, y = ring[:, 0].astype(np.int64), ring[:, 1].astype(np.int64)
    return int((x * np.roll(y, -1) - np.roll(x, -1) * y).sum())


@compiled
def _trace(
    mask: npt.NDArray[np.bool_],
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64], npt.NDArray[np.int32]]:
    """Walk along all borders, the mask to the right; where two pixels touch in a corner, past it.

    Returns:
        (P, 2) x, y of the corners of all walks, where each ends, and (y, x) of a pixel beside it.
    """
    height, width = mask.shape
    edges, tops = _edges(mask)
    points = np.empty((edges, 2), np.int32)
    ends = np.empty(tops, np.int64)
    starts = np.empty((tops, 2), np.int32)
    seen = np.zeros((height, width), np.bool_)  # pixels whose upper edge was walked along
    n = walks = 0
    for row in range(height):
        for column in range(width):
            if seen[row, column] or not mask[row, column] or _inside(mask, row - 1, column):
                continue
            n = _walk(mask, row, column, seen, points, n)
            ends[walks] = n
            starts[walks, 0], starts[walks, 1] = row, column
            walks += 1
    return points[:n].copy(), ends[:walks].copy(), starts[:walks].copy()


@compiled
def _walk(
    mask: npt.NDArray[np.bool_],
    y: int,
    x: int,
    seen: npt.NDArray[np.bool_],
    points: npt.NDArray[np.int32],
    n: int,
) -> int:
    """One walk, from the upper edge of pixel (y, x) until there again; appends its corners."""
    direction = 0  # right, down, left, up
    while direction != 0 or not seen[y, x]:
        if direction == 0:
            seen[y, x] = True
        dy = 1 if direction == 1 else -1 if direction == 3 else 0
        dx = 1 if direction == 0 else -1 if direction == 2 else 0
        corner_x = x + (1 if direction <= 1 else 0)
        corner_y = y + (1 if direction == 1 or direction == 2 else 0)
        if not _inside(mask, y + dy, x + dx):
            direction = (direction + 1) % 4
        elif _inside(mask, y + dy - dx, x + dx + dy):
            y, x = y + dy - dx, x + dx + dy
            direction = (direction + 3) % 4
        else:
            y, x = y + dy, x + dx
            continue  # straight on: no corner
        points[n, 0], points[n, 1] = corner_x, corner_y
        n += 1
    return n


@compiled
def _inside(mask: npt.NDArray[np.bool_], y: int, x: int) -> bool:
    return 0 <= y < mask.shape[0] and 0 <= x < mask.shape[1] and bool(mask[y, x])


@compiled
def _edges(mask: npt.NDArray[np.bool_]) -> tuple[int, int]:
    """Edges between the mask and what is not, and how many of them are upper ones."""
    edges = tops = 0
    for y in range(mask.shape[0]):
        for x in range(mask.shape[1]):
            if mask[y, x]:
                top = not _inside(mask, y - 1, x)
                tops += top
                edges += top + (not _inside(mask, y + 1, x))
                edges += (not _inside(mask, y, x - 1)) + (not _inside(mask, y, x + 1))
    return edges, tops
