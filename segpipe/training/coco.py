"""Annotations in COCO's JSON as label images to learn from; classes go by their names.

Only visible pixels are learnt: where objects overlap, the smaller one is on top. Regions marked
`iscrowd` are no objects and become background, which is said once.
"""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from segpipe.errors import SpecError
from segpipe.report.coco_file import Annotation, InstanceFile, mask_of, read_coco

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class CocoTruth:
    """The objects of one image, as annotations and the class ids they have in the recipe.

    Attributes:
        source: the file and the image, for messages.
        shape: (H, W), as the file says.
    """

    source: str
    shape: tuple[int, int]
    objects: tuple[tuple[int, Annotation], ...]

    def __call__(
        self, shape: tuple[int, int]
    ) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
        """The label image (H, W) and the class of each label.

        Raises:
            SpecError: the image is of another size, or a mask is broken.
        """
        if shape != self.shape:
            raise SpecError(f"{self.source}: {self.shape} in the file, the image is {shape}")
        masks = [
            (class_id, mask_of(one, shape, f"{self.source}: object {number}"))
            for number, (class_id, one) in enumerate(self.objects)
        ]
        masks.sort(key=lambda one: -int(one[1].sum()))
        labels = np.zeros(shape, np.int32)
        for label, (_, mask) in enumerate(masks, start=1):
            labels[mask] = label
        return labels, np.array([0, *(class_id for class_id, _ in masks)], np.int64)


def coco_truths(path: Path, classes: Sequence[str]) -> dict[str, CocoTruth]:
    """Image file name -> its truth.

    Args:
        classes: names by class id, entry 0 is the background.

    Raises:
        SpecError: it cannot be read, is no file of instances, or has a category that is not among
            the classes.
    """
    file = read_coco(path)
    if not isinstance(file, InstanceFile):
        raise SpecError(f"{path}: in the panoptic format; training takes COCO's instances")
    names = {one.id: one.name for one in file.categories}
    if unknown := sorted(set(names.values()) - set(classes[1:])):
        raise SpecError(f"{path}: categories {unknown} are not among {list(classes[1:])}")
    objects: dict[int, list[tuple[int, Annotation]]] = defaultdict(list)
    crowds = Counter[str]()
    for one in file.annotations:
        if one.iscrowd:
            crowds[names[one.category_id]] += 1
        else:
            objects[one.image_id].append((classes.index(names[one.category_id]), one))
    if crowds:
        log.warning("%s: regions of crowds, which are not learnt: %s", path, dict(crowds))
    return {
        image.file_name: CocoTruth(
            f"{path}: {image.file_name}", (image.height, image.width), tuple(objects[image.id])
        )
        for image in file.images
    }
