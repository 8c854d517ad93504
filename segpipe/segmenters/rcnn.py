"""R-CNN as a `Segmenter`: selective search, a network on every region, non-maximum suppression.

For teaching and comparison: what it finds are boxes, and it takes its time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torchvision.ops import batched_nms, clip_boxes_to_image

from segpipe.errors import SpecError
from segpipe.masks.paint import paint
from segpipe.records import DecodedImage, Header, Instances, Segmentation
from segpipe.segmenters.base import Footprint
from segpipe.segmenters.detectors import COVERED, filled_boxes
from segpipe.segmenters.devices import device_memory, inference
from segpipe.segmenters.preprocess import PLANES_BYTES, PREPARE_BYTES, Planes, to_planes
from segpipe.segmenters.proposals import (
    SEARCH_BYTES,
    SEARCH_PIXEL_BYTES,
    Boxes,
    Search,
    require_opencv,
    selective_search,
    to_bytes,
)
from segpipe.segmenters.rcnn_network import decode, load_rcnn, parse_architecture
from segpipe.segmenters.runtime import deploy
from segpipe.spec import RCNNOptions, SegmentSpec

REGIONS_AT_ONCE = 64
"""Regions in a forward pass, all of one image."""

_LIBRARY_BYTES = 192 << 20
_WARPED_BYTES = 400
"""Of a forward pass: whatever the regions, and for each pixel of a warped one. 114 to 218 MB were
measured for 64 regions of 64 x 64, differently by the allocator in each process."""


@dataclass(frozen=True, slots=True, eq=False)
class Proposed:
    """An image as the network takes it, and where to look in it.

    Attributes:
        planes: (3, H, W) float32, normalised.
        boxes: (P, 4) float32 x0, y0, x1, y1 in pixels.
        cut: there were more of them than allowed.
    """

    planes: Planes
    boxes: Boxes
    cut: bool


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """What the network says of each region.

    Attributes:
        scores: (P, C) float32, probabilities over all classes; class 0 is the background.
        boxes: (P, C - 1, 4) float32, the region's box if it is of class 1, 2, ...
        cut: as in `Proposed`.
    """

    scores: npt.NDArray[np.float32]
    boxes: npt.NDArray[np.float32]
    cut: bool


class RCNNSegmenter:
    """R-CNN, loaded on its device.

    `Segmentation.saturated` says that it found as many objects as it was allowed to, or that there
    were more proposals than it was allowed to look at.

    Args:
        spec: its model has a `preprocess` rule and its options are `RCNNOptions`.
        weights: the file whose sha256 `spec` names; whoever resolved the spec has checked it.

    Raises:
        SpecError: the spec is not one of R-CNN, or OpenCV is missing.
        WeightsError: the file's tensors are not those of the architecture.
    """

    def __init__(self, spec: SegmentSpec, weights: Path) -> None:
        if spec.model.preprocess is None or not isinstance(spec.options, RCNNOptions):
            raise SpecError(f"model {spec.model.name!r} is not described as an R-CNN")
        require_opencv()
        self.spec = spec
        self._preprocess = spec.model.preprocess
        self._options = spec.options
        self._device = torch.device(spec.device)
        self._side = parse_architecture(spec.model.architecture).side
        network = load_rcnn(spec.model.architecture, len(spec.model.classes), weights)
        self._network = deploy(network, spec)

    def footprint(self, header: Header) -> Footprint:
        """By the image, and by what selective search and one group of regions take."""
        pixels = header.height * header.width
        planes = PLANES_BYTES * pixels
        searched = min(pixels, self._options.search_side**2)
        answers = self._options.max_proposals * len(self.spec.model.classes) * 5 * 4
        forward = planes + answers
        if self.spec.device == "cpu":
            forward += _LIBRARY_BYTES + REGIONS_AT_ONCE * self._side**2 * _WARPED_BYTES
        return Footprint(
            waiting=planes + answers,
            prepare=PREPARE_BYTES * pixels + SEARCH_BYTES + SEARCH_PIXEL_BYTES * searched,
            forward=forward,
            finish=3 * answers + (COVERED + 4) * pixels,
        )

    def prepare(self, image: DecodedImage) -> Proposed:
        """Scaled planes, and what selective search proposes in them."""
        planes = to_planes(image.pixels, self._preprocess)
        options, rule = self._options, self._preprocess
        search = Search(options.mode, options.min_region, options.search_side, options.min_side)
        boxes = selective_search(to_bytes(planes, rule.mean, rule.std), search)
        limit = options.max_proposals
        return Proposed(planes, boxes[:limit], cut=len(boxes) > limit)

    def forward(self, batch: Sequence[Proposed]) -> Sequence[Judged]:
        """Image by image, so that none depends on the others; bf16 is for the network only."""
        what = f"a batch of {len(batch)} images of {batch[0].planes.shape[1:]}"
        with device_memory(self.spec, what), inference(self.spec):
            return [self._judge(image) for image in batch]

    def finish(self, raw: Judged, image: DecodedImage) -> Segmentation:
        """Boxes that no better one of their class overlaps too much; each fills its box."""
        shape = image.header.shape
        boxes, scores, class_ids = self._detections(raw, shape)
        masks = filled_boxes(boxes, shape)
        kept = [index for index, crop in enumerate(masks) if crop.mask.any()]
        instances = Instances(
            tuple(masks[index] for index in kept),
            scores[kept],
            class_ids[kept],
            saturated=raw.cut or len(masks) == self._options.max_detections,
            n_discarded=len(masks) - len(kept),
        )
        return paint(instances, shape)

    def _judge(self, image: Proposed) -> Judged:
        planes = torch.from_numpy(image.planes).to(self._device)[None]
        regions = torch.from_numpy(image.boxes).to(self._device)
        scores, boxes = [], []
        for some in torch.split(regions, REGIONS_AT_ONCE):
            logits, offsets = self._network(planes, [some])
            scores.append(logits.softmax(dim=1))
            boxes.append(decode(some[:, None].expand_as(offsets), offsets))
        return Judged(torch.cat(scores).cpu().numpy(), torch.cat(boxes).cpu().numpy(), image.cut)

    def _detections(
        self, raw: Judged, shape: tuple[int, int]
    ) -> tuple[Boxes, npt.NDArray[np.float32], npt.NDArray[np.int32]]:
        """Boxes, scores and class ids, best first; suppression is within a class."""
        objects = torch.from_numpy(raw.scores[:, 1:])
        region, kind = torch.nonzero(objects >= self._options.score_threshold, as_tuple=True)
        scores = objects[region, kind]
        boxes = clip_boxes_to_image(torch.from_numpy(raw.boxes)[region, kind], shape)
        best = batched_nms(boxes, scores, kind, self._options.nms_threshold)
        best = best[: self._options.max_detections]
        class_ids = (kind[best] + 1).to(torch.int32)
        return boxes[best].numpy(), scores[best].numpy(), class_ids.numpy()
