"""ImageJ's region of interest files: one zip per image, which its ROI Manager opens."""

from __future__ import annotations

import zipfile
from functools import partial
from pathlib import Path
from typing import BinaryIO

import numpy as np
import roifile

from segpipe.errors import SpecError
from segpipe.export.files import ExportSummary
from segpipe.export.objects import objects_with_masks, write_each_image
from segpipe.masks.outline import Polygon, outline
from segpipe.progress import Observer
from segpipe.store.snapshot import Row, Snapshot

_MOVE, _LINE, _CLOSE = 0, 1, 4
"""Operations of a path, as in java.awt.geom.PathIterator."""

MAX_COORDINATE = 1 << 24
"""Up to here a float of 32 bits, as a region has them, tells one pixel from the next."""

_EPOCH = (1980, 1, 1, 0, 0, 0)
"""The first time that a zip can hold: the same objects give the same bytes."""


def export_imagej(snapshot: Snapshot, out: Path, observe: Observer | None = None) -> ExportSummary:
    """Write the newest objects of every `ok` image: `a/b/c.tif` becomes `OUT/a/b/c.zip`.

    An object is a polygon along the edges of its pixels, or a composite one where it has holes or
    several parts. Its name is `<label> <class>`.

    A region's header has 16 bits for its box, which ImageJ takes for -5,000 to 60,535. Beyond that
    an outline is written as floats (a polygon with "sub-pixel resolution", or a composite), of
    which ImageJ, as of its `RoiDecoder`, makes the box itself; that of the header is then wrong.

    Raises:
        SpecError: a file cannot be written, or an object lies beyond `MAX_COORDINATE`.
    """
    return write_each_image(snapshot, out, ".zip", partial(_write, snapshot), observe)


def _write(snapshot: Snapshot, image: Row, file: BinaryIO) -> None:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for row, mask in objects_with_masks(snapshot, image):
            roi = region(outline(mask), f"{row['label']} {row['class_name']}", image["path"])
            member = zipfile.ZipInfo(f"{row['label']:06d}.roi", _EPOCH)
            member.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(member, roi.tobytes())


def region(polygons: tuple[Polygon, ...], name: str, image_path: str) -> roifile.ImagejRoi:
    """The region of an object.

    Raises:
        SpecError: it lies too far out; says which object of which image that is.
    """
    farthest = max(int(one.shell.max()) for one in polygons)
    if farthest > MAX_COORDINATE:
        raise SpecError(
            f"{image_path}, object {name}: it reaches to pixel {farthest:,}; regions of ImageJ "
            f"hold coordinates up to {MAX_COORDINATE:,}; geojson and coco have no such limit"
        )
    if len(polygons) == 1 and not polygons[0].holes:
        roi = roifile.ImagejRoi.frompoints(polygons[0].shell)
        roi.roitype = roifile.ROI_TYPE.POLYGON
        roi.name = name
        return roi
    rings = [ring for one in polygons for ring in (one.shell, *one.holes)]
    path: list[float] = []
    for ring in rings:
        for number, (x, y) in enumerate(ring.tolist()):
            path += [_LINE if number else _MOVE, x, y]
        path.append(_CLOSE)
    corners = np.concatenate(rings)
    (left, top), (right, bottom) = corners.min(axis=0).tolist(), corners.max(axis=0).tolist()
    roi = roifile.ImagejRoi(
        roitype=roifile.ROI_TYPE.RECT, name=name, left=left, top=top, right=right, bottom=bottom
    )
    roi.multi_coordinates = np.array(path, np.float32)
    roi.shape_roi_size = len(path)
    return roi
