"""Connected regions over tiles: what each tile numbers by itself, joined where cores touch.

A region of an image is made of the regions of cores that touch across their faces, so only the
outermost rows and columns of each core have to be kept, and the result is exactly that of the
whole image. It suits what is connected by definition, such as the regions of a class; objects that
touch would become one, and are for `masks.seams`. (As the distributed runs of cellpose join
blocks, Stringer et al., Nature Methods 2021; regions are the components of a graph of touches.)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from segpipe.errors import InvariantError
from segpipe.planning.tiles import Tile, Tiling, check_complete

Int64s = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Faces:
    """The rim of a core's label image.

    Attributes:
        tile: number of the tile.
        class_ids: (n,) int32 of labels 1..n.
        top, bottom: (width,) labels of the first and the last row; 0 is background.
        left, right: (height,) of the first and the last column.
    """

    tile: int
    class_ids: npt.NDArray[np.int32]
    top: Int64s
    bottom: Int64s
    left: Int64s
    right: Int64s


def faces_of(
    tiling: Tiling,
    tile: Tile,
    labels: npt.NDArray[np.integer[Any]],
    class_ids: npt.NDArray[np.int32],
) -> Faces:
    """What `join_faces` needs of a tile.

    Args:
        labels: (h, w) of the core, 0 is background, 1..n are connected regions.
        class_ids: (n,).

    Raises:
        InvariantError: it is not of the size of the core, or labels exceed n.
    """
    if labels.shape != (tile.core.height, tile.core.width):
        raise InvariantError(f"labels of shape {labels.shape} for the core {tile.core}")
    rims = (np.array(rim, np.int64) for rim in (labels[0], labels[-1], labels[:, 0], labels[:, -1]))
    faces = Faces(tiling.number(tile), class_ids, *rims)
    largest = max(int(rim.max()) for rim in (faces.top, faces.bottom, faces.left, faces.right))
    if largest > len(class_ids):
        raise InvariantError(f"label {largest} in {tile.core}, with {len(class_ids)} classes")
    return faces


def join_faces(
    tiling: Tiling, faces: Iterable[Faces], diagonal: bool = False
) -> Mapping[int, npt.NDArray[np.uint32]]:
    """New labels of all regions: the same number for those that are one region of the image.

    Args:
        tiling: of the image.
        faces: of every tile once, in any order.
        diagonal: whether pixels that only share a corner touch; as in the tiles' own labels.

    Returns:
        Number of a tile -> (n + 1,) the label 1..N in the image of each of its labels, 0 for
        background: `lookup[labels]` is what is written. Labels are in the order of each region's
        first tile, and of its label there.

    Raises:
        InvariantError: a tile is missing or came twice.
    """
    ordered = sorted(faces, key=lambda one: one.tile)
    check_complete(tiling, [one.tile for one in ordered])
    counts = np.array([len(one.class_ids) for one in ordered], np.int64)
    before = np.cumsum(counts) - counts
    touches = [np.empty((2, 0), np.int64)]
    for one, mine, other, theirs in _seams(tiling, diagonal, ordered):
        both = (mine > 0) & (theirs > 0)
        labels = np.stack((mine[both] + before[one] - 1, theirs[both] + before[other] - 1))
        touches.append(np.unique(labels, axis=1))
    a, b = np.concatenate(touches, axis=1)
    class_ids = np.concatenate([one.class_ids for one in ordered])
    same = class_ids[a] == class_ids[b]
    joined = coo_array(
        (np.ones(same.sum(), np.bool_), (a[same], b[same])), shape=(counts.sum(),) * 2
    )
    regions = connected_components(joined, directed=False)[1]
    _, first, inverse = np.unique(regions, return_index=True, return_inverse=True)
    rank = np.empty(len(first), np.uint32)
    rank[np.argsort(first)] = np.arange(1, len(first) + 1)
    numbers = rank[inverse]
    return {
        one.tile: np.concatenate((np.zeros(1, np.uint32), part))
        for one, part in zip(ordered, np.split(numbers, before[1:]), strict=True)
    }


def _seams(
    tiling: Tiling, diagonal: bool, faces: Sequence[Faces]
) -> Iterator[tuple[int, Int64s, int, Int64s]]:
    """Labels that lie next to each other in two cores: tile, (k,), the other tile, (k,)."""
    for number, one in enumerate(faces):
        last_column = number % tiling.columns == tiling.columns - 1
        below = number + tiling.columns
        across = [] if last_column else [(one.right, number + 1, faces[number + 1].left)]
        down = [(one.bottom, below, faces[below].top)] if below < len(faces) else []
        for mine, other, theirs in across + down:
            yield number, mine, other, theirs
            if diagonal:
                yield number, mine[1:], other, theirs[:-1]
                yield number, mine[:-1], other, theirs[1:]
        if diagonal and down and not last_column:
            yield number, one.bottom[-1:], below + 1, faces[below + 1].top[:1]
            yield number + 1, faces[number + 1].bottom[:1], below, faces[below].top[-1:]
