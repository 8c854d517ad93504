"""ImageJ's region of interest files: one zip per image, which its ROI Manager opens."""

from __future__ import annotations

import zipfile
from functools import partial
from pathlib import Path
from typing import BinaryIO

import numpy as np
import roifile

from segpipe.export.files import ExportSummary
from segpipe.export.objects import objects_with_masks, write_each_image
from segpipe.masks.outline import Polygon, outline
from segpipe.store.snapshot import Row, Snapshot

_MOVE, _LINE, _CLOSE = 0, 1, 4
"""Operations of a path, as in java.awt.geom.PathIterator."""

_EPOCH = (1980, 1, 1, 0, 0, 0)
"""The first time that a zip can hold: the same objects give the same bytes."""


def export_imagej(snapshot: Snapshot, out: Path) -> ExportSummary:
    """Write the newest objects of every `ok` image: `a/b/c.tif` becomes `OUT/a/b/c.zip`.

    An object is a polygon along the edges of its pixels, or a composite one where it has holes or
    several parts. Its name is `<label> <class>`.

    Raises:
        SpecError: a file cannot be written.
    """
    return write_each_image(snapshot, out, ".zip", partial(_write, snapshot))


def _write(snapshot: Snapshot, image: Row, file: BinaryIO) -> None:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for row, mask in objects_with_masks(snapshot, image):
            roi = _roi(outline(mask), f"{row['label']} {row['class_name']}")
            member = zipfile.ZipInfo(f"{row['label']:06d}.roi", _EPOCH)
            member.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(member, roi.tobytes())


def _roi(polygons: tuple[Polygon, ...], name: str) -> roifile.ImagejRoi:
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
