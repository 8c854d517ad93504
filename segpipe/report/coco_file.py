"""COCO's annotation files: objects as polygons or run lengths, and the panoptic format.

A file comes from strangers: every value that is used is checked first, and a mask is made only
from coordinates and run lengths that fit its image.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from segpipe.errors import SpecError
from segpipe.masks import rle

MAX_FILE_BYTES = 2 << 30
_SHOWN = 3

Mask = npt.NDArray[np.bool_]
Model = TypeVar("Model", bound=BaseModel)


class _Read(BaseModel):
    """What is not listed is ignored: files hold licences, links and more."""

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)


class Picture(_Read):
    """An entry of `images`."""

    id: int
    file_name: str
    height: int = Field(ge=1, le=1 << 17)
    width: int = Field(ge=1, le=1 << 17)


class Category(_Read):
    """An entry of `categories`; `isthing` is of the panoptic format."""

    id: int
    name: str
    isthing: int = 1


class RunLengths(_Read):
    """A mask as run lengths; `size` is (H, W)."""

    counts: str | list[int]
    size: tuple[int, int]


class Annotation(_Read):
    """An entry of `annotations` of instances."""

    image_id: int
    category_id: int
    segmentation: RunLengths | list[list[float]]
    bbox: tuple[float, float, float, float] | None = None
    area: float | None = Field(None, ge=0)
    iscrowd: int = 0


class Segment(_Read):
    """A region of a panoptic image; its pixels have the colour `id` = R + 256 G + 65536 B."""

    id: int = Field(ge=1, lt=1 << 24)
    category_id: int
    iscrowd: int = 0


class PanopticAnnotation(_Read):
    """An entry of `annotations` of the panoptic format: one per image."""

    image_id: int
    file_name: str
    segments_info: list[Segment]


class _Head(_Read):
    images: list[Picture]
    categories: list[Category]


class InstanceFile(_Head):
    """Objects that may overlap."""

    annotations: list[Annotation]


class PanopticFile(_Head):
    """Regions that do not overlap, in a PNG per image."""

    annotations: list[PanopticAnnotation]


def read_coco(path: Path) -> InstanceFile | PanopticFile:
    """An annotation file of either format, checked.

    Raises:
        SpecError: it cannot be read, is too large, or is not such a file.
    """
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise SpecError(f"{path}: larger than {MAX_FILE_BYTES:,} bytes")
        text = path.read_bytes()
    except OSError as error:
        raise SpecError(f"{path}: cannot be read: {error.strerror}") from error
    file: InstanceFile | PanopticFile
    if b'"segments_info"' in text:
        file = _parse(PanopticFile, text, path)
        used = [
            (one.image_id, {segment.category_id for segment in one.segments_info})
            for one in file.annotations
        ]
    else:
        file = _parse(InstanceFile, text, path)
        used = [(one.image_id, {one.category_id}) for one in file.annotations]
    _check_ids(file, used, path)
    return file


def _parse(model: type[Model], text: bytes, path: Path) -> Model:
    try:
        return model.model_validate_json(text)
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False)
        lines = [
            f"{path}: {'.'.join(str(part) for part in one['loc']) or 'file'}: {one['msg']}"
            for one in found[:_SHOWN]
        ]
        more = f"\nand {len(found) - _SHOWN:,} more" if len(found) > _SHOWN else ""
        raise SpecError(f"{path}: no COCO annotations\n" + "\n".join(lines) + more) from None


def _check_ids(file: _Head, used: list[tuple[int, set[int]]], path: Path) -> None:
    """Every id is there once, and what refers to it finds it.

    Args:
        used: of each annotation, its image and its categories.
    """
    for what, values in (
        ("image id", Counter(str(one.id) for one in file.images)),
        ("image file_name", Counter(one.file_name for one in file.images)),
        ("category id", Counter(str(one.id) for one in file.categories)),
        ("category name", Counter(one.name for one in file.categories)),
    ):
        for value, count in values.most_common(1):
            if count > 1:
                raise SpecError(f"{path}: {what} {value!r} is there {count} times; it must be one")
    images = {one.id for one in file.images}
    categories = {one.id for one in file.categories}
    for number, (image, own) in enumerate(used):
        if image not in images:
            raise SpecError(f"{path}: annotations.{number}: there is no image {image}")
        for category in own - categories:
            raise SpecError(f"{path}: annotations.{number}: there is no category {category}")


def mask_of(annotation: Annotation, shape: tuple[int, int], where: str) -> Mask:
    """(H, W) pixels of an object.

    Args:
        where: names the annotation in messages.

    Raises:
        SpecError: polygons or run lengths that do not fit the image.
    """
    found = annotation.segmentation
    if not isinstance(found, RunLengths):
        return _mask_of_polygons(found, shape, where)
    if found.size != shape:
        raise SpecError(f"{where}: a mask of {found.size}, but the image is {shape}")
    if isinstance(found.counts, str):
        try:
            return rle.decode(found.counts, shape)
        except SpecError as error:
            raise SpecError(f"{where}: {error}") from None
    if min(found.counts, default=0) < 0 or sum(found.counts) != shape[0] * shape[1]:
        raise SpecError(f"{where}: run lengths that do not add up to the image's pixels")
    inside = np.arange(len(found.counts)) % 2 == 1
    return np.repeat(inside, found.counts).reshape(shape[1], shape[0]).T


def _mask_of_polygons(polygons: list[list[float]], shape: tuple[int, int], where: str) -> Mask:
    """The pixels that COCO's own code fills."""
    from pycocotools import mask as coco

    height, width = shape
    for polygon in polygons:
        if len(polygon) < 6 or len(polygon) % 2:
            raise SpecError(f"{where}: a polygon of {len(polygon)} numbers; x, y of 3 points up")
        # Points may lie somewhat outside; its code takes memory with the length of the outline.
        far = max(abs(value) for value in polygon)
        if far > 2 * max(shape) + 16:
            raise SpecError(f"{where}: a point at {far:g}, far out of the image of {shape}")
    if not polygons:
        return np.zeros(shape, np.bool_)
    merged = coco.merge(coco.frPyObjects(polygons, height, width))
    return rle.decode(merged["counts"].decode("ascii"), shape)
