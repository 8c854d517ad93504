"""The second step: of all versions of all tiles, what stays."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from segpipe.masks.seams.elect import called, elect, groups_of
from segpipe.masks.seams.links import Versions, link
from segpipe.masks.seams.near import SeamObjects
from segpipe.masks.seams.packed import (
    X0,
    X1,
    Y0,
    Y1,
    Bools,
    Int64s,
    PackedMasks,
    join,
    pack,
    stacked,
)
from segpipe.masks.seams.pairs import Pairs, find_pairs, spread
from segpipe.masks.seams.stitch import loose_ends, stitch, whole_class
from segpipe.planning.tiles import Tiling, check_complete
from segpipe.records import CroppedMask

T = TypeVar("T", bound=np.generic)

MAX_PIXELS = 1 << 28
"""In the box of one object that is put together, each a byte of memory: 16384 x 16384."""


_KEPT_SHARE = 0.8
"""Of what a tile sees of an object, at least, in what is put together; else tiles that answer for
the rest of it have found nothing."""


class Verdict(IntEnum):
    """What becomes of a version."""

    KEPT = 0
    """It stays as it is."""
    ECHO = 1
    """Another tile's version of the object stays."""
    UNCONFIRMED = 2
    """The tile whose core holds its anchor, and which sees more around it, has found nothing."""
    UNITED = 3
    """It is a piece of an object that is put together."""


@dataclass(frozen=True, slots=True, eq=False)
class Merged:
    """The objects near seams, each once; those that were kept by tile and position, then the
    united ones.

    Attributes:
        tiles: (N,) the number of the tile that it is of; of a united one, of its first piece.
        indices: (N,) its position in that tile's `Instances`; -1 for a united one.
        class_ids: (N,) int32.
        scores: (N,) float32.
        boxes: (N, 4) tight, y0, x0, y1, x1.
        incomplete: (N,) whether it was cut by an edge and no other tile has the rest, or the tiles
            that answer for a part of it have not found it: larger than the halo, and not whole.
        verdicts: number of a tile -> (M,) `Verdict` of each of its `SeamObjects.indices`, uint8.
        masks: of those that were kept, and of the united ones.
    """

    tiles: Int64s
    indices: Int64s
    class_ids: npt.NDArray[np.int32]
    scores: npt.NDArray[np.float32]
    boxes: Int64s
    incomplete: Bools
    verdicts: Mapping[int, npt.NDArray[np.uint8]]
    masks: tuple[PackedMasks, PackedMasks]
    _reaching: tuple[Int64s, Int64s]

    def __len__(self) -> int:
        return len(self.tiles)

    def mask(self, index: int) -> CroppedMask:
        """The pixels of an object, wherever its tile's core ends."""
        kept, united = self.masks
        return kept.mask(index) if index < len(kept) else united.mask(index - len(kept))

    def reaching(self, tile: int) -> Int64s:
        """The objects whose box shares a pixel with the core of a tile, of whatever tile they are:
        with the tile's settled objects, all that is to be painted there. Ascending.
        """
        first, objects = self._reaching
        return objects[first[tile] : first[tile + 1]]


def merge(
    tiling: Tiling,
    seams: Iterable[SeamObjects],
    min_iou: float = 0.5,
    min_inside: float = 0.5,
    max_pixels: int = MAX_PIXELS,
) -> Merged:
    """Merge the objects that more than one tile may have seen, in whatever order the tiles come.

    Args:
        tiling: of the image.
        seams: of each tile once, also where it has found nothing.
        min_iou: from here on two versions are of one object.
        min_inside: from this share of its pixels on a version without a counterpart is a fragment.
        max_pixels: in the box of an object that is put together.

    Raises:
        InvariantError: a tile is missing, so that what it owns would be left out, or came twice.
        BudgetError: an object that is put together is too large for memory.
    """
    parts = sorted(seams, key=lambda part: part.tile)
    check_complete(tiling, [part.tile for part in parts])
    versions, masks = _versions(parts)
    grown = np.array(
        [(box.y0, box.x0, box.y1, box.x1) for box in (tile.grown for tile in tiling)], np.int64
    )
    pairs = find_pairs(versions.tiles, versions.cut, masks, grown)
    a, b = link(versions, pairs, tiling.halo, min_iou, min_inside)
    groups = groups_of(len(masks), a, b)
    verdicts = _judge(tiling, versions, masks, groups, a, b)
    pieces = np.flatnonzero(verdicts == Verdict.UNITED)
    loose = _loose(tiling, versions, masks.take(pieces), pieces, groups, pairs, grown)
    united = _unite(tiling, versions, masks, groups, pieces, loose, max_pixels)
    return _merged(tiling, parts, versions, masks, verdicts, united)


def _versions(parts: list[SeamObjects]) -> tuple[Versions, PackedMasks]:
    """Of all tiles together."""
    sizes = [len(part.indices) for part in parts]
    versions = Versions(
        tiles=np.repeat(np.array([part.tile for part in parts], np.int64), sizes),
        class_ids=stacked([part.class_ids for part in parts], np.int32),
        scores=stacked([part.scores for part in parts], np.float32),
        cut=stacked([part.cut for part in parts], np.bool_),
        in_core=stacked([part.in_core for part in parts], np.bool_),
    )
    return versions, join([part.masks for part in parts])


def _judge(
    tiling: Tiling,
    versions: Versions,
    masks: PackedMasks,
    groups: Int64s,
    a: Int64s,
    b: Int64s,
) -> npt.NDArray[np.uint8]:
    """(N,) the verdict on each version: a group with one that is cut is united, others elect."""
    rims = versions.rims
    verdicts = np.full(len(rims), Verdict.ECHO, np.uint8)
    united = (np.bincount(groups, versions.cut & ~rims) > 0)[groups]
    verdicts[united] = Verdict.UNITED
    whole = np.flatnonzero(~united & ~rims)
    place = np.full(len(rims), -1)
    place[whole] = np.arange(len(whole))
    among = place[a] >= 0
    calls = called(tiling, masks.boxes[whole])
    stay, unmet = elect(
        versions.tiles[whole], calls, masks.areas[whole], place[a[among]], place[b[among]]
    )
    verdicts[whole[stay]] = Verdict.KEPT
    verdicts[whole[unmet]] = Verdict.UNCONFIRMED
    return verdicts


def _loose(
    tiling: Tiling,
    versions: Versions,
    masks: PackedMasks,
    pieces: Int64s,
    groups: Int64s,
    pairs: Pairs,
    grown: Int64s,
) -> Bools:
    """(P,) of the pieces, those with an end that no other piece of their object continues."""
    place = np.full(len(groups), -1)
    place[pieces] = np.arange(len(pieces))
    within = (groups[pairs.a] == groups[pairs.b]) & (place[pairs.a] >= 0)
    a, b = place[pairs.a[within]], place[pairs.b[within]]
    return loose_ends(versions.tiles[pieces], masks, a, b, grown, tiling.shape)


@dataclass(frozen=True, slots=True, eq=False)
class _United:
    """One object that was put together."""

    tile: int
    class_id: int
    score: np.float32
    mask: CroppedMask
    incomplete: bool


def _unite(
    tiling: Tiling,
    versions: Versions,
    masks: PackedMasks,
    groups: Int64s,
    pieces: Int64s,
    loose: Bools,
    limit: int,
) -> list[_United]:
    """Put together, in the order of the objects' first pieces."""
    members: dict[int, list[int]] = {}
    for place, group in enumerate(groups[pieces].tolist()):
        members.setdefault(group, []).append(place)
    united = []
    for places in members.values():
        of = pieces[places]
        tiles = versions.tiles[of].tolist()
        class_id, score = whole_class(versions.class_ids[of], versions.scores[of], masks.areas[of])
        mask = stitch(tiling, tiles, [masks.mask(i) for i in of.tolist()], limit)
        lost = np.count_nonzero(mask.mask) < _KEPT_SHARE * masks.areas[of].max()
        incomplete = bool(loose[places].any() or lost)
        united.append(_United(tiles[0], class_id, score, mask, incomplete))
    return united


def _merged(
    tiling: Tiling,
    parts: list[SeamObjects],
    versions: Versions,
    masks: PackedMasks,
    verdicts: npt.NDArray[np.uint8],
    united: list[_United],
) -> Merged:
    kept = np.flatnonzero(verdicts == Verdict.KEPT)
    whole, put_together = masks.take(kept), pack([one.mask for one in united])
    indices = stacked([part.indices for part in parts], np.int64)[kept]
    boxes = np.concatenate((whole.boxes, put_together.boxes))
    ends = np.cumsum([len(part.indices) for part in parts])[:-1]
    return Merged(
        tiles=_and(versions.tiles[kept], [one.tile for one in united]),
        indices=_and(indices, [-1] * len(united)),
        class_ids=_and(versions.class_ids[kept], [one.class_id for one in united]),
        scores=_and(versions.scores[kept], [one.score for one in united]),
        boxes=boxes,
        incomplete=_and(np.zeros(len(kept), np.bool_), [one.incomplete for one in united]),
        verdicts={
            part.tile: own for part, own in zip(parts, np.split(verdicts, ends), strict=False)
        },
        masks=(whole, put_together),
        _reaching=_reaching(tiling, boxes),
    )


def _and(kept: npt.NDArray[T], united: Sequence[object]) -> npt.NDArray[T]:
    """A column of the kept objects, and of the united ones."""
    return np.concatenate((kept, np.array(united, kept.dtype)))


def _reaching(tiling: Tiling, boxes: Int64s) -> tuple[Int64s, Int64s]:
    """Objects by the cores that their boxes reach: where those of a tile begin, and the objects."""
    first, last = (
        np.stack(np.divmod(tiling.owners(y, x), tiling.columns), axis=1)
        for y, x in ((boxes[:, Y0], boxes[:, X0]), (boxes[:, Y1] - 1, boxes[:, X1] - 1))
    )
    tiles, objects = spread(first, last, tiling.columns)
    return np.searchsorted(tiles, np.arange(len(tiling) + 1)), objects
