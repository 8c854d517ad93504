"""A truth from COCO's annotation files, which tell objects, their classes, and crowds."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from segpipe.errors import SpecError
from segpipe.measure.coco import CocoObject
from segpipe.records import CroppedMask
from segpipe.report.coco_file import (
    Annotation,
    Category,
    InstanceFile,
    PanopticAnnotation,
    PanopticFile,
    Picture,
    mask_of,
    read_coco,
)
from segpipe.report.objects import Mask, TrueObjects, coco_object

Instance = tuple[str, CocoObject]
"""Class name, and the object, of class index 0."""


@dataclass(frozen=True, slots=True, eq=False)
class CocoEntry:
    """The annotations of one image.

    Attributes:
        file: where they stand.
        panoptic: the regions of a panoptic file, and the PNG that holds them; else None.
    """

    file: Path
    picture: Picture
    instances: tuple[Annotation, ...]
    panoptic: tuple[PanopticAnnotation, Path] | None

    def __str__(self) -> str:
        return f"{self.file}: {self.picture.file_name}"


class CocoTruth:
    """Annotation files taken together; their images and classes go by their names.

    Attributes:
        entries: file_name -> annotations of the image.
        class_names: of things, in the order of the files.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        """Read and check the files; masks are made later.

        Raises:
            SpecError: a file is no COCO file, or two files annotate the same image.
        """
        self.entries: dict[str, CocoEntry] = {}
        self._categories: dict[Path, dict[int, Category]] = {}
        for path in paths:
            file = read_coco(path)
            self._categories[path] = {one.id: one for one in file.categories}
            for entry in _entries(file, path):
                name = entry.picture.file_name
                if name in self.entries:
                    raise SpecError(f"{self.entries[name]} is annotated in {path} too; keep one")
                self.entries[name] = entry
        names = (
            one.name for own in self._categories.values() for one in own.values() if one.isthing
        )
        self.class_names = tuple(dict.fromkeys(names))

    def objects(
        self, entry: CocoEntry, shape: tuple[int, int], classes: Mapping[str, int]
    ) -> TrueObjects:
        """The truth of one image.

        Args:
            shape: (H, W) of the image.
            classes: index of each class that is compared.

        Raises:
            SpecError: it is of another shape, or a mask is broken.
        """
        own = entry.picture.height, entry.picture.width
        if own != shape:
            raise SpecError(
                f"{entry}: is {own[0]} x {own[1]} pixels (height x width), but the image it "
                f"belongs to is {shape[0]} x {shape[1]}"
            )
        categories = self._categories[entry.file]
        if entry.panoptic is None:
            return _collect(_annotated(entry, categories), shape, classes, None)
        regions = _read_regions(entry, shape)
        return _collect(_segments(entry, categories, regions), shape, classes, regions == 0)


def _entries(file: InstanceFile | PanopticFile, path: Path) -> Iterator[CocoEntry]:
    if isinstance(file, InstanceFile):
        instances: dict[int, list[Annotation]] = defaultdict(list)
        for one in file.annotations:
            instances[one.image_id].append(one)
        for picture in file.images:
            yield CocoEntry(path, picture, tuple(instances[picture.id]), None)
    else:
        pictures = {picture.id: picture for picture in file.images}
        for regions in file.annotations:
            png = _find_png(path, regions.file_name)
            yield CocoEntry(path, pictures[regions.image_id], (), (regions, png))


def _find_png(path: Path, name: str) -> Path:
    """The PNG of a panoptic image: in the folder of the file's name, in `panoptic`, or beside."""
    relative = PurePosixPath(name)
    if relative.is_absolute() or ".." in relative.parts:
        raise SpecError(f"{path}: {name!r} leads out of the folder of the annotations")
    folders = path.with_suffix(""), path.parent / "panoptic", path.parent
    for folder in folders:
        if (folder / relative).is_file():
            return folder / relative
    tried = ", ".join(str(folder) for folder in folders)
    raise SpecError(f"{path}: {name} is in none of {tried}")


def _annotated(entry: CocoEntry, categories: Mapping[int, Category]) -> Iterator[Instance]:
    shape = entry.picture.height, entry.picture.width
    for number, one in enumerate(entry.instances):
        mask = _crop(mask_of(one, shape, f"{entry}: object {number}"))
        made = coco_object(0, mask)
        area = made.area if one.area is None else one.area
        found = CocoObject(0, one.bbox or made.box, mask, area, crowd=one.iscrowd != 0)
        yield categories[one.category_id].name, found


def _segments(
    entry: CocoEntry, categories: Mapping[int, Category], regions: npt.NDArray[np.int64]
) -> Iterator[Instance]:
    """The things among the regions; the rest of the image, stuff, is background."""
    assert entry.panoptic is not None
    for one in entry.panoptic[0].segments_info:
        if categories[one.category_id].isthing:
            mask = _crop(regions == one.id)
            found = replace(coco_object(0, mask), crowd=one.iscrowd != 0)
            yield categories[one.category_id].name, found


def _crop(mask: Mask) -> CroppedMask:
    """The part of a mask (H, W) that holds its pixels; it may hold none."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return CroppedMask(0, 0, mask[:0, :0])
    y0, x0 = int(rows[0]), int(columns[0])
    return CroppedMask(y0, x0, mask[y0 : rows[-1] + 1, x0 : columns[-1] + 1].copy())


def _collect(
    instances: Iterator[Instance],
    shape: tuple[int, int],
    classes: Mapping[str, int],
    void: Mask | None,
) -> TrueObjects:
    single: list[CocoObject] = []
    crowd: list[CocoObject] = []
    others: Counter[str] = Counter()
    for name, found in instances:
        if name in classes:
            (crowd if found.crowd else single).append(replace(found, class_index=classes[name]))
        else:
            others[name] += 1
    # The smaller ones are painted last, and are on top.
    single.sort(key=lambda one: -np.count_nonzero(one.mask.mask))
    labels = np.zeros(shape, np.int64)
    for label, one in enumerate(single, start=1):
        _pixels(labels, one.mask)[one.mask.mask] = label
    crowds: dict[int, Mask] = {}
    for one in crowd:
        region = crowds.setdefault(one.class_index, np.zeros(shape, np.bool_))
        _pixels(region, one.mask)[one.mask.mask] = True
    return TrueObjects(
        labels=labels,
        class_of=np.array([-1, *(one.class_index for one in single)], np.int64),
        objects=(*single, *crowd),
        void=void,
        crowds=crowds,
        hidden=len(single) - len(np.unique(labels[labels > 0])),
        other_classes=others,
    )


def _pixels(image: npt.NDArray[Any], crop: CroppedMask) -> npt.NDArray[Any]:
    """Where a crop lies in an image."""
    height, width = crop.mask.shape
    return image[crop.y0 : crop.y0 + height, crop.x0 : crop.x0 + width]


def _read_regions(entry: CocoEntry, shape: tuple[int, int]) -> npt.NDArray[np.int64]:
    """(H, W) region ids; 0 is not annotated.

    Raises:
        SpecError: the PNG cannot be read, is of another shape, or holds an id that is not listed.
    """
    assert entry.panoptic is not None
    listed, png = entry.panoptic
    try:
        with Image.open(png, formats=["PNG"]) as image:
            if (image.height, image.width) != shape or image.mode != "RGB":
                raise SpecError(
                    f"{png}: {image.mode} of {image.height} x {image.width} pixels; the regions "
                    f"of {entry} are RGB of {shape[0]} x {shape[1]}"
                )
            colours = np.asarray(image).astype(np.int64)
    except SpecError:
        raise
    except Exception as error:  # what decoders raise on damaged files is not a closed list
        raise SpecError(f"{png}: cannot be read as PNG: {error}") from error
    regions: npt.NDArray[np.int64] = colours @ np.array([1, 1 << 8, 1 << 16])
    unknown = np.setdiff1d(regions, [0, *(one.id for one in listed.segments_info)])
    if len(unknown):
        raise SpecError(f"{png}: region {unknown[0]} is not in {entry}")
    return regions
