"""All ways that are compared, by name.

To supervision and SAHI are given, for nothing, the range of values and the magnification that
segpipe finds for the whole image, so that what differs is how parts are put together; except for
those `each slice by itself`, which is what their callers get who do no more than that.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from segpipe.geometry import Box
from segpipe.large.cut import tiling_of
from segpipe.masks.paint import unpaint
from tests.foreign import by_sahi, by_supervision
from tests.foreign.jobs import Job, Way, decoded, segmenter_of
from tests.foreign.slice_model import view_of
from tests.parts import through_store


def _whole(job: Job) -> Any:
    return partial(through_store, segmenter_of(job), decoded(job.pixels))


def _cut(job: Job) -> Any:
    first = segmenter_of(job, limits={"max_pixels": 1})
    # `tiles.side` counts what the network sees, and slices are counted in pixels of the image.
    side = round(job.side * view_of(job, first).magnification)
    tiles = {"side": side, "halo": job.overlap // 2}
    segmenter = segmenter_of(job, limits={"max_pixels": job.side**2}, tiles=tiles)
    return partial(through_store, segmenter, decoded(job.pixels))


def _tiles(job: Job) -> list[Box]:
    return [tile.grown for tile in tiling_of(job.shape, job.side, job.overlap // 2)]


def _uncut(job: Job) -> list[Box]:
    return [Box(0, 0, *job.shape)]


WHOLE, SEGPIPE = "seen whole", "segpipe"

WAYS = {
    WHOLE: Way(_whole, unpaint, _uncut),
    SEGPIPE: Way(_cut, unpaint, _tiles),
    "supervision NMS, IoU": by_supervision.way(),
    "supervision NMS, IoU, compact": by_supervision.way(compact_masks=True),
    "supervision NMS, IoS, compact": by_supervision.way(compact_masks=True, overlap_metric="IOS"),
    "supervision NMM, IoS, compact": by_supervision.way(
        compact_masks=True, overlap_metric="IOS", overlap_filter="non_max_merge"
    ),
    "SAHI NMS, IoU": by_sahi.way("NMS", "IOU"),
    "SAHI NMS, IoS": by_sahi.way("NMS", "IOS"),
    "SAHI GREEDYNMM, IoS": by_sahi.way("GREEDYNMM", "IOS"),
    "SAHI NMM, IoS": by_sahi.way("NMM", "IOS"),
    "supervision NMS, IoU, each slice by itself": by_supervision.way(by_itself=True),
    "SAHI GREEDYNMM, IoS, each slice by itself": by_sahi.way("GREEDYNMM", "IOS", by_itself=True),
}
