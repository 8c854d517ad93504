"""The U-Net as a `Segmenter`: instances or classes from a fully convolutional network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from segpipe.errors import WeightsError
from segpipe.records import DecodedImage, Header, Segmentation
from segpipe.segmenters.base import Areas, Footprint, View
from segpipe.segmenters.blockwise import for_cpus
from segpipe.segmenters.devices import device_memory, inference
from segpipe.segmenters.magnification import (
    choose_magnification,
    median_diameter,
    median_disc,
    resample,
)
from segpipe.segmenters.preprocess import (
    PLANES_BYTES,
    PREPARE_BYTES,
    Scalable,
    to_scalable,
)
from segpipe.segmenters.quantisation import quantise, split_ranges
from segpipe.segmenters.runtime import by_backend, dtype_of
from segpipe.segmenters.splitting import (
    Confidence,
    Semantic,
    classes_of,
    regions_of,
    split_instances,
)
from segpipe.segmenters.transfer import to_device, to_host
from segpipe.segmenters.unet_network import (
    INSTANCE_MAPS,
    STRIDE,
    UNetArchitecture,
    activation_bytes,
    build_unet,
    parse_architecture,
)
from segpipe.segmenters.weights import fill, load_tensors
from segpipe.spec import ModelSpec, SegmentSpec, UNetOptions

Maps = npt.NDArray[np.float32]
"""(C, H, W) probabilities, still padded."""


class Objects(NamedTuple):
    """What `split_instances` found in an image."""

    label_image: npt.NDArray[np.uint32]
    scores: npt.NDArray[np.float32]


FINISH_BYTES = 72
"""Of `finish` at its peak, for each pixel; measured: 15 to 24 for instances, 35 for two classes."""


class UNetSegmenter:
    """A U-Net, loaded on its device.

    Args:
        spec: its model has a `preprocess` rule and its options are `UNetOptions`.
        weights: the file whose sha256 `spec` names; whoever resolved the spec has checked it.

    Attributes:
        network: planes (N, 3, H, W) to logits of the same height and width.

    Raises:
        WeightsError: the file's tensors are not those of the architecture, or its classes are not
            those of its output maps.
        SpecError: the architecture is not one of a U-Net.
    """

    def __init__(self, spec: SegmentSpec, weights: Path) -> None:
        if spec.model.preprocess is None or not isinstance(spec.options, UNetOptions):
            raise WeightsError(f"{weights}: model {spec.model.name!r} is not described as a U-Net")
        self.spec = spec
        self._preprocess = spec.model.preprocess
        self._options = spec.options
        self._device = torch.device(spec.device)
        self._architecture = parse_architecture(spec.model.architecture)
        _check_classes(spec.model, self._architecture, weights)
        self.scaling = self._preprocess.scaling
        self.min_area = self._options.min_area
        network = load_unet(spec.model.architecture, weights, spec.precision == "int8")
        if (spec.backend, spec.device) == ("torch", "cpu"):
            network = for_cpus(network, dtype_of(spec))
        self.network = by_backend(network, spec)

    def footprint(self, header: Header) -> Footprint:
        """In proportion to the padded pixels; a second look may be at four times as many."""
        pixels = _padded_pixels(header)
        doubled = self._looks_twice and 4 * pixels <= self._options.max_magnified_pixels
        return self._footprint(pixels, 4 * pixels if doubled else pixels)

    def part_footprint(self, header: Header, magnification: float) -> Footprint:
        """By the pixels of the one look."""
        pixels = _padded_pixels(header)
        return self._footprint(pixels, max(pixels, round(pixels * magnification**2)))

    def _footprint(self, pixels: int, looked_at: int) -> Footprint:
        planes, maps = PLANES_BYTES * pixels, 4 * self._architecture.outputs * pixels
        forward = planes + maps
        if self.spec.device == "cpu":
            # OpenVINO keeps the buffers of earlier shapes: 150 to 480 bytes a pixel were measured.
            by_torch = self.spec.backend == "torch"
            precision = self.spec.precision if by_torch else "fp32"
            forward += activation_bytes(self._architecture, looked_at, precision, by_torch)
        return Footprint(
            waiting=max(planes, maps),
            prepare=PREPARE_BYTES * pixels,
            forward=forward,
            finish=FINISH_BYTES * pixels + maps,
        )

    def prepare(self, image: DecodedImage) -> Scalable:
        """Pixels, mirrored below and to the right up to the network's stride."""
        return to_scalable(image.pixels, self._preprocess, STRIDE)

    def prepare_part(self, part: DecodedImage, view: View) -> Scalable:
        """As `prepare`; looked at once, in the size that was chosen for the whole image."""
        found = to_scalable(part.pixels, self._preprocess, STRIDE, (view.low, view.high))
        return replace(found, magnification=view.magnification)

    def magnification(self, areas: Areas) -> float:
        """As for a whole image."""
        if not self._looks_twice:
            return 1.0
        return choose_magnification(median_disc(areas), self._options.object_diameter)

    def forward(self, batch: Sequence[Scalable]) -> Sequence[Maps | Objects]:
        """Probabilities for images of one shape; objects, where they had to be found on the way."""
        shape = (len(batch), *batch[0].pixels.shape)
        with device_memory(self.spec, f"a batch of shape {shape}"), inference(self.spec):
            planes = to_device(batch, self._device)
            magnification = batch[0].magnification
            if magnification is not None:  # parts of one image
                return self._look(planes, magnification)
            maps = self._look(planes)
            if not self._looks_twice:
                return maps
            return [
                self._second_look(planes[i : i + 1], maps[i], image)
                for i, image in enumerate(batch)
            ]

    @property
    def _looks_twice(self) -> bool:
        return self.spec.model.task == "instances" and self._options.object_diameter > 0

    def _probabilities(self, logits: torch.Tensor) -> list[Maps]:
        """In the memory of the logits, where that is enough."""
        instances = self.spec.model.task == "instances"
        maps = logits.sigmoid_() if instances else logits.softmax(1)
        return list(to_host(maps))

    def _second_look(self, planes: torch.Tensor, first: Maps, image: Scalable) -> Maps | Objects:
        """The objects of one image, or, if they ask for half or double its size, maps from that."""
        objects = self._split(first, image.shape)
        diameter = median_diameter(objects.label_image)
        magnification = choose_magnification(diameter, self._options.object_diameter)
        looked_at = planes.shape[2] * planes.shape[3] * magnification**2
        if magnification == 1 or looked_at > self._options.max_magnified_pixels:
            return objects
        return self._look(planes, magnification)[0]

    def _look(self, planes: torch.Tensor, magnification: float = 1.0) -> list[Maps]:
        """Probabilities for the planes' own pixels, from planes of another size."""
        height, width = planes.shape[2:]
        size = round(height * magnification), round(width * magnification)
        down, right = (-side % STRIDE for side in size)
        looked_at = resample(planes, size)
        if down or right:
            looked_at = functional.pad(looked_at, (0, right, 0, down), mode="replicate")
        logits = self.network(looked_at)[..., : size[0], : size[1]]
        return self._probabilities(resample(logits.float(), (height, width)))

    def _split(self, maps: Maps, shape: tuple[int, int]) -> Objects:
        foreground, distance, edge = maps[:, : shape[0], : shape[1]]
        return Objects(*split_instances(foreground, distance, edge, self._options))

    def finish(self, raw: Maps | Objects, image: DecodedImage) -> Segmentation:
        """Objects in the image's frame; for a semantic model they are the connected regions."""
        height, width = image.header.shape
        if self.spec.model.task == "instances":
            found = raw if isinstance(raw, Objects) else self._split(raw, (height, width))
            return Segmentation(*found, np.ones(len(found.scores), np.int32))
        assert not isinstance(raw, Objects)
        semantic, confidence = self.classes(raw, (height, width))
        label_image, scores, class_ids = regions_of(semantic, confidence, self.min_area)
        return Segmentation(label_image, scores, class_ids, semantic=semantic)

    def classes(self, raw: Maps, shape: tuple[int, int]) -> tuple[Semantic, Confidence]:
        """Of a semantic model: the class of each pixel, (H, W) uint8, and the probability of the
        most probable class that is not background, (H, W) float32.
        """
        maps = raw[:, : shape[0], : shape[1]]
        return classes_of(maps, self._options.foreground_threshold)


def _padded_pixels(header: Header) -> int:
    height, width = (side + -side % STRIDE for side in header.shape)
    return height * width


def _check_classes(model: ModelSpec, architecture: UNetArchitecture, weights: Path) -> None:
    semantic = model.task == "semantic"
    outputs = len(model.classes) if semantic else len(INSTANCE_MAPS)
    if architecture.outputs != outputs or (not semantic and len(model.classes) != 2):
        raise WeightsError(
            f"{weights}: {len(model.classes)} classes, {', '.join(model.classes)[:200]}, do not fit"
            f" {architecture.outputs} output maps of a network for {model.task}"
        )


def load_unet(
    architecture: dict[str, object], weights: Path, int8: bool = False
) -> torch.nn.Module:
    """The network with the weights of a file, fp32, on the CPU, in eval mode.

    Args:
        int8: it rounds to 8 bits in the ranges that the file holds.

    Raises:
        WeightsError: missing, unexpected or misshapen tensors; the first few are named.
    """
    network = build_unet(architecture)
    tensors, ranges = split_ranges(load_tensors(weights))
    fill(network, tensors, weights)
    return quantise(network.eval(), ranges) if int8 else network.eval()
