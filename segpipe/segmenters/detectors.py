"""Mask R-CNN and Faster R-CNN as a `Segmenter`.

The network's parts are torchvision's; what follows them (boxes back to the image's frame, masks
into the image) is done here, in each object's box.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional
from torchvision.models.detection.image_list import ImageList

from segpipe.errors import SpecError
from segpipe.geometry import Box
from segpipe.masks.paint import paint
from segpipe.masks.paste import paste_masks
from segpipe.records import CroppedMask, DecodedImage, Header, Instances, Segmentation
from segpipe.segmenters.base import Areas, Footprint, View
from segpipe.segmenters.detector_network import MASK_GRID, activation_bytes, load_detector
from segpipe.segmenters.devices import device_memory, inference
from segpipe.segmenters.preprocess import (
    PLANES_BYTES,
    PREPARE_BYTES,
    Scalable,
    to_scalable,
)
from segpipe.segmenters.runtime import deploy
from segpipe.segmenters.transfer import to_device, to_host
from segpipe.spec import DetectorOptions, SegmentSpec

FloatArray = npt.NDArray[np.float32]

COVERED = 32
"""How often the boxes of an image's objects may cover it, for its estimate of memory. Measured: up
to 3 with trained weights, up to 26 with random ones that answer as much as they are allowed."""


@dataclass(frozen=True, slots=True, eq=False)
class Detections:
    """What the network found in one image, best score first.

    Attributes:
        boxes_xyxy: (N, 4) float32, in pixels of the resized image.
        scores: (N,) float32 in [0, 1].
        class_ids: (N,) int32.
        masks: (N, 28, 28) float32 probabilities in the frame of each box; None for Faster R-CNN.
        resized: (H, W) of the resized image.
    """

    boxes_xyxy: FloatArray
    scores: FloatArray
    class_ids: npt.NDArray[np.int32]
    masks: FloatArray | None
    resized: tuple[int, int]

    def boxes_in(self, shape: tuple[int, int]) -> FloatArray:
        """The boxes in pixels of an image of `shape` (H, W), of which this one was resized."""
        y, x = np.asarray(shape, np.float32) / np.asarray(self.resized, np.float32)
        return self.boxes_xyxy * np.array([x, y, x, y], np.float32)


class DetectorSegmenter:
    """A detector, loaded on its device.

    A whole image is brought to the size of torchvision's rule. Parts of a large image, whatever
    their shapes, are looked at in one magnification, that of the spec's tiles: an object is as
    large in each of them, and as in small images of the usual size.

    The network's own limits come from the options. `Segmentation.saturated` says that it found as
    many objects as it was allowed to. An image so narrow that a side would vanish in the resize
    has no objects.

    Args:
        spec: its model has a `preprocess` rule and its options are `DetectorOptions`.
        weights: the file whose sha256 `spec` names; whoever resolved the spec has checked it.

    Raises:
        SpecError: the spec is not one of a detector.
        WeightsError: the file's tensors are not those of the architecture.
    """

    def __init__(self, spec: SegmentSpec, weights: Path) -> None:
        if spec.model.preprocess is None or not isinstance(spec.options, DetectorOptions):
            raise SpecError(f"model {spec.model.name!r} is not described as a detector")
        self.spec = spec
        self._preprocess = spec.model.preprocess
        self._options = spec.options
        self._device = torch.device(spec.device)
        self.scaling = self._preprocess.scaling
        self.network = deploy(load_detector(spec.model, spec.options, weights), spec)

    def footprint(self, header: Header) -> Footprint:
        """By the image, by its resized copy, and as if it had as many objects as are allowed."""
        return self._footprint(header, self._scale_of(*header.shape))

    def part_footprint(self, header: Header, magnification: float) -> Footprint:
        """The same in the magnification of all parts."""
        return self._footprint(header, magnification * self._part_magnification)

    def _footprint(self, header: Header, scale: float) -> Footprint:
        pixels = header.height * header.width
        planes = PLANES_BYTES * pixels
        masks = self._options.max_detections * (2 * MASK_GRID) ** 2 * 4
        forward = 2 * planes + masks
        if self.spec.device == "cpu":
            resized = int(pixels * scale**2)
            forward += activation_bytes(self.spec.model, self._options, resized)
        return Footprint(
            waiting=max(planes, masks),
            prepare=PREPARE_BYTES * pixels,
            forward=forward,
            finish=masks + (COVERED + 4 + PLANES_BYTES) * pixels,
        )

    def prepare(self, image: DecodedImage) -> Scalable:
        """Pixels as they are; the device scales and resizes them."""
        return to_scalable(image.pixels, self._preprocess)

    def prepare_part(self, part: DecodedImage, view: View) -> Scalable:
        """As `prepare`; looked at in the magnification of all parts.

        Raises:
            SpecError: the spec does not say how images are cut.
        """
        found = to_scalable(part.pixels, self._preprocess, between=(view.low, view.high))
        return replace(found, magnification=view.magnification * self._part_magnification)

    def magnification(self, areas: Areas) -> float:  # noqa: ARG002
        """1: detectors find objects of many sizes in one look."""
        return 1.0

    @property
    def _part_magnification(self) -> float:
        tiles = self.spec.tiles
        if tiles is None or tiles.magnification is None:
            raise SpecError(
                f"model {self.spec.model.name!r} looks at parts in the magnification of `tiles`, "
                "and the spec has none"
            )
        return tiles.magnification

    def forward(self, batch: Sequence[Scalable]) -> Sequence[Detections]:
        """Detections in images of one shape; bf16 is for convolutions and products only."""
        height, width = batch[0].pixels.shape[:2]
        scale = batch[0].magnification
        if min(height, width) * (scale or self._scale_of(height, width)) < 1:
            return [self._nothing((height, width))] * len(batch)
        what = f"a batch of {len(batch)} images of {height}x{width}"
        with device_memory(self.spec, what), inference(self.spec):
            return self._detect(self._resized(to_device(batch, self._device), scale))

    def finish(self, raw: Detections, image: DecodedImage) -> Segmentation:
        """Objects in the image's frame; those of Faster R-CNN fill their boxes."""
        shape = image.header.shape
        boxes = raw.boxes_in(shape)
        if raw.masks is None:
            masks = filled_boxes(boxes, shape)
        else:
            masks = paste_masks(raw.masks, boxes, shape, self._options.mask_threshold)
        kept = [index for index, crop in enumerate(masks) if crop.mask.any()]
        instances = Instances(
            tuple(masks[index] for index in kept),
            raw.scores[kept],
            raw.class_ids[kept],
            saturated=len(masks) == self._options.max_detections,
            n_discarded=len(masks) - len(kept),
        )
        return paint(instances, shape)

    def _detect(self, resized: ImageList) -> list[Detections]:
        network = self.network
        features = network.backbone(resized.tensors.contiguous(memory_format=torch.channels_last))
        proposals, _ = network.rpn(resized, features)
        found, _ = network.roi_heads(features, proposals, resized.image_sizes)
        return [
            Detections(
                to_host(one["boxes"]),
                to_host(one["scores"]),
                one["labels"].cpu().numpy().astype(np.int32),
                to_host(one["masks"][:, 0]) if "masks" in one else None,
                size,
            )
            for one, size in zip(found, resized.image_sizes, strict=True)
        ]

    def _resized(self, images: torch.Tensor, scale: float | None) -> ImageList:
        """Sides are rounded down and images interpolated as torchvision does it."""
        if scale is None:
            resized, _ = self.network.transform(list(images))
            return resized
        size = tuple(int(side * scale) for side in images.shape[2:])
        looked_at = functional.interpolate(images, size, mode="bilinear", align_corners=False)
        return ImageList(
            self.network.transform.batch_images(list(looked_at)), [size] * len(looked_at)
        )

    def _scale_of(self, height: int, width: int) -> float:
        """By torchvision's rule."""
        short, long = sorted((height, width))
        return min(self._options.min_size / short, self._options.max_size / long)

    def _nothing(self, shape: tuple[int, int]) -> Detections:
        masks = np.empty((0, 28, 28), np.float32) if self.spec.model.kind == "mask_rcnn" else None
        none = np.empty(0, np.float32)
        return Detections(none.reshape(0, 4), none, none.astype(np.int32), masks, shape)


def filled_boxes(boxes_xyxy: FloatArray, shape: tuple[int, int]) -> tuple[CroppedMask, ...]:
    """Boxes as masks: rounded (half to even) to half-open pixel boxes inside an image of `shape`.

    A box that holds no pixel after rounding gives an empty mask.
    """
    corners = np.rint(boxes_xyxy).astype(np.int64).tolist()
    boxes = [Box(y0, x0, y1, x1).clip(shape) for x0, y0, x1, y1 in corners]
    return tuple(
        CroppedMask(box.y0, box.x0, np.ones((box.height, box.width), np.bool_)) for box in boxes
    )
