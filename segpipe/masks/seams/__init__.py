"""One list of objects from the tiles of an image: each object once, and whole.

Neighbouring tiles see a strip together, so an object there is found twice, in versions that are
the same from an ideal segmenter and differ by pixels from a network. Two steps, so that a whole
slide never has to be in memory: `near_seams`, tile by tile, tells the objects that are final from
the versions that wait; `merge` takes what waits, a bit for each pixel, and decides.

1. **Anchors.** A version belongs to the tile whose core holds the middle pixel of its box. Where
   versions are the same this alone is exact.
2. **Counterparts.** Versions of two tiles are matched by the IoU of their masks, in what both
   tiles saw, and fragments by intersection over the smaller; linked versions are one group
   (`links`). Each group without a cut elects the tile whose view of it stays (`elect`): never
   none, though each version may have its anchor in the other's core, and never two.
3. **Cuts.** Larger than its halo, an object is cut by the edges of all its tiles. Its pieces are
   put together core by core, along a chain of any length; where a cut goes on nowhere, the object
   is marked `incomplete` (`stitch`).

What a cut leaves of an object at the rim of a halo links and keeps nothing: the object lies in
other cores, whose tiles see more of it. An object is taken to be connected, or no larger than its
halo.

Where this differs from others: SAHI (Akyon et al., ICIP 2022) suppresses or merges all predictions
by the IoU of boxes or intersection over the smaller (`GreedyNMMPostprocess`, threshold 0.5), so
that of touching or nested objects one may go; here an object has at most one counterpart in
another tile, and a fragment none. Cellpose's `distributed_segmentation` (Stringer et al., Nature
Methods 2021) joins labels that touch across the faces of blocks, as `masks.faces` does for
connected regions; two touching objects become one there. Sopa's `solve_conflicts` (Blampey et al.,
Nature Communications 2024) unites polygons by intersection over the smaller, which thickens
what two tiles draw differently; here one tile's view stays.
"""

from segpipe.masks.seams.merging import Merged, Verdict, merge
from segpipe.masks.seams.near import SeamObjects, near_seams
from segpipe.masks.seams.whole import (
    TileObjects,
    WholeObjects,
    merge_tiles,
    pack_tile,
    whole_objects,
)

__all__ = [
    "Merged",
    "SeamObjects",
    "TileObjects",
    "Verdict",
    "WholeObjects",
    "merge",
    "merge_tiles",
    "near_seams",
    "pack_tile",
    "whole_objects",
]
