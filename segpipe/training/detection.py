"""What Mask R-CNN and Faster R-CNN learn: boxes, classes, and masks within boxes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN

from segpipe.errors import SpecError
from segpipe.segmenters.detector_network import Sampling, build_detector
from segpipe.spec import DetectorOptions, ModelSpec
from segpipe.training.augment import Crop
from segpipe.training.recipe import DetectorRecipe, Recipe

Target = dict[str, torch.Tensor]
Item = tuple[torch.Tensor, Target]
Batch = tuple[torch.Tensor, list[Target]]

VALIDATION_SEED = 0
"""Anchors and regions are sampled at random; for validation the same ones each time."""


class DetectionLearner:
    """Planes (N, 3, S, S) float32, and for each crop the objects in it.

    A target has `boxes` (M, 4) float32, x0 y0 x1 y1 in pixels, half-open; `labels` (M,) int64
    class ids; and, for Mask R-CNN, `masks` (M, S, S) uint8, 0 or 1.

    Raises:
        SpecError: a recipe that is not one of a detector.
    """

    distances = False

    def __init__(self, recipe: Recipe) -> None:
        network, options = recipe.network, recipe.postprocess
        if not isinstance(network, DetectorRecipe) or not isinstance(options, DetectorOptions):
            raise SpecError(f"recipe {recipe.name!r}: its postprocess is not that of a detector")
        self._min_object = network.min_object
        self._masks = network.kind == "mask_rcnn"
        model = ModelSpec(
            name=recipe.name,
            kind=network.kind,
            architecture=network.architecture.model_dump(mode="json"),
            classes=recipe.classes,
        )
        sampling = Sampling(network.rpn_batch, network.proposals, network.roi_batch)
        built = build_detector(model, options, sampling)
        self.network: torch.nn.Module = built.to(memory_format=torch.channels_last)

    def item(self, crop: Crop) -> Item:
        """The objects of which the crop holds `min_object` pixels, in the order of their labels.

        What it holds less of, mostly slivers that its border has cut off, counts as background.
        """
        pixels = torch.bincount(crop.labels.flatten(), minlength=len(crop.class_ids))
        pixels[0] = 0
        kept = torch.nonzero(pixels >= self._min_object)[:, 0]
        target = {
            "boxes": _boxes(crop.labels, len(crop.class_ids))[kept],
            "labels": crop.class_ids[kept],
        }
        if self._masks:
            target["masks"] = (crop.labels == kept[:, None, None]).to(torch.uint8)
        return crop.planes, target

    def collate(self, items: list[Item]) -> Batch:
        return torch.stack([planes for planes, _ in items]), [target for _, target in items]

    def losses(self, network: torch.nn.Module, batch: Batch) -> dict[str, torch.Tensor]:
        """torchvision's losses of both stages; crops are learnt from at their own size."""
        planes, targets = batch
        if network.training:
            return _named(network(list(planes), targets))
        with _comparing_with_truth(network), torch.random.fork_rng(devices=[]):
            torch.manual_seed(VALIDATION_SEED)
            return _named(network(list(planes), targets))


def _named(losses: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name.removeprefix("loss_"): loss for name, loss in losses.items()}


def _boxes(labels: torch.Tensor, count: int) -> torch.Tensor:
    """(count, 4) float32: the box of each label from 0 to count - 1; of absent ones, anything."""
    rows, columns = torch.meshgrid(*map(torch.arange, labels.shape), indexing="ij")
    sides = []
    for places, reduce in ((columns, "amin"), (rows, "amin"), (columns, "amax"), (rows, "amax")):
        extreme = torch.zeros(count, dtype=torch.int64)
        extreme.scatter_reduce_(0, labels.flatten(), places.flatten(), reduce, include_self=False)
        sides.append(extreme + (reduce == "amax"))
    return torch.stack(sides, 1).float()


@contextmanager
def _comparing_with_truth(network: GeneralizedRCNN) -> Iterator[None]:
    """A network in eval mode gives its losses, as torchvision's do in training mode only.

    What it is made of (batch normalisation, say) stays in eval mode.
    """
    judges = (network, network.transform, network.rpn, network.roi_heads)
    for judge in judges:
        judge.training = True
    try:
        yield
    finally:
        for judge in judges:
            judge.training = False
