"""What R-CNN learns: the class of a region, and the box of the object in it."""

from __future__ import annotations

import zlib

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from segpipe.errors import SpecError
from segpipe.measure.boxes import box_iou, boxes_of
from segpipe.segmenters.proposals import (
    Boxes,
    Search,
    require_opencv,
    selective_search,
    to_bytes,
)
from segpipe.segmenters.rcnn_network import build_rcnn, encode
from segpipe.spec import RCNNOptions
from segpipe.training.augment import Crop
from segpipe.training.recipe import RCNNRecipe, Recipe

OBJECT_IOU = 0.5
"""A region is of the class of an object that it overlaps so much, as in the paper."""

Item = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]
Batch = tuple[torch.Tensor, list[torch.Tensor], torch.Tensor, torch.Tensor]


class RCNNLearner:
    """Crops, and some regions of each: what selective search proposes, and moved true boxes.

    The proposals are those that the network will have to judge, with the halves and pairs of
    objects that make it hard; one grouping is enough for that, and takes less time than the
    network. Of touching objects the search misses many, so true boxes, moved and stretched, are
    added to learn from; those that were moved too far are background too.

    Raises:
        SpecError: a recipe that is not one of R-CNN, or OpenCV is missing.
    """

    distances = False

    def __init__(self, recipe: Recipe) -> None:
        network, options = recipe.network, recipe.postprocess
        if not isinstance(network, RCNNRecipe) or not isinstance(options, RCNNOptions):
            raise SpecError(f"recipe {recipe.name!r}: its postprocess is not that of an R-CNN")
        require_opencv()
        self._recipe, self._preprocess = network, recipe.preprocess
        self._search = Search("single", options.min_region, min_side=options.min_side)
        architecture = network.architecture.model_dump()
        self.network: torch.nn.Module = build_rcnn(architecture, len(recipe.classes))

    def item(self, crop: Crop) -> Item:
        """The crop's planes, and its regions: boxes, classes, and offsets to the true boxes.

        Regions are chosen at random; the same crop gives the same ones.
        """
        planes = crop.planes.numpy()
        rng = np.random.default_rng(zlib.crc32(planes.tobytes()))
        truth, class_ids = self._objects(crop)
        rule = self._preprocess
        proposed = selective_search(to_bytes(planes, rule.mean, rule.std), self._search)
        candidates = np.concatenate([proposed, move(truth, self._recipe.moved, rng)])
        nearest, is_object = assign(candidates, truth)
        chosen = self._choose(is_object, rng)
        boxes, nearest, is_object = candidates[chosen], nearest[chosen], is_object[chosen]
        classes = np.zeros(len(boxes), np.int64)
        classes[is_object] = class_ids[nearest[is_object]]
        targets = boxes.copy()
        targets[is_object] = truth[nearest[is_object]]
        regions = torch.from_numpy(boxes)
        offsets = encode(regions, torch.from_numpy(targets))
        return crop.planes, regions, torch.from_numpy(classes), offsets

    def collate(self, items: list[Item]) -> Batch:
        planes, boxes, classes, offsets = zip(*items, strict=True)
        return torch.stack(planes), list(boxes), torch.cat(classes), torch.cat(offsets)

    def losses(self, network: torch.nn.Module, batch: Batch) -> dict[str, torch.Tensor]:
        """Cross entropy over all regions, and smooth L1 (Girshick, ICCV 2015) of objects' offsets.

        The second is divided by the number of all regions, so that it does not grow when there
        are few objects.
        """
        planes, boxes, classes, offsets = batch
        logits, answers = network(planes, boxes)
        objects = torch.nonzero(classes)[:, 0]
        own = answers[objects, classes[objects] - 1]
        distance = functional.smooth_l1_loss(own, offsets[objects], reduction="sum")
        return {
            "class": functional.cross_entropy(logits, classes),
            "box": self._recipe.box * distance / len(classes),
        }

    def _objects(self, crop: Crop) -> tuple[Boxes, npt.NDArray[np.int64]]:
        """Boxes and classes of the objects of which the crop holds enough pixels."""
        labels, class_ids = crop.labels.numpy(), crop.class_ids.numpy()
        enough = np.bincount(labels.ravel(), minlength=len(class_ids)) >= self._recipe.min_object
        enough[0] = False
        boxes = boxes_of(np.where(enough[labels], labels, 0))
        return boxes.astype(np.float32), class_ids[enough]

    def _choose(
        self, is_object: npt.NDArray[np.bool_], rng: np.random.Generator
    ) -> npt.NDArray[np.intp]:
        """Indices of objects, at most `object_share` of all, and of background to fill up."""
        total = self._recipe.regions
        objects = rng.permutation(np.flatnonzero(is_object))
        objects = objects[: int(total * self._recipe.object_share)]
        background = rng.permutation(np.flatnonzero(~is_object))[: total - len(objects)]
        return np.concatenate([objects, background])


def move(boxes: Boxes, times: int, rng: np.random.Generator) -> Boxes:
    """Every box so many times, each elsewhere: up to a third of its sides away, and of 2/3 to 3/2
    of its sides, so that about half of them still overlap it by IoU 0.5.
    """
    boxes = np.repeat(boxes, times, axis=0)
    size = boxes[:, 2:] - boxes[:, :2]
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2 + size * rng.uniform(-1 / 3, 1 / 3, size.shape)
    half = size / 2 * np.exp(rng.uniform(-1, 1, size.shape) * np.log(1.5))
    return np.concatenate([centre - half, centre + half], axis=1).astype(np.float32)


def assign(regions: Boxes, truth: Boxes) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.bool_]]:
    """For each region the true box it overlaps most, and whether by `OBJECT_IOU` or more.

    Without any true box the first is -1.
    """
    if not len(truth):
        return np.full(len(regions), -1), np.zeros(len(regions), np.bool_)
    iou = box_iou(regions.astype(np.float64), truth.astype(np.float64))
    return iou.argmax(axis=1), iou.max(axis=1) >= OBJECT_IOU
