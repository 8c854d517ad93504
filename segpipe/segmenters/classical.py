"""Grouping pixels by intensity, colour, density or texture: the baseline that needs no weights.

A feature of each pixel, a threshold on it (Otsu, IEEE TSMC 1979; Li and Tam, Pattern Recognition
Letters 1998; triangle: Zack et al., J. Histochem. Cytochem. 1977), and a watershed on the
distance to the background, which splits objects that touch (Beucher and Lantuejoul, 1979).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from skimage import color, feature, filters, segmentation

from segpipe.errors import SpecError
from segpipe.masks.paint import from_label_image
from segpipe.records import DecodedImage, Header, Pixels, Segmentation
from segpipe.segmenters.base import Footprint
from segpipe.segmenters.preprocess import value_range
from segpipe.spec import ClassicalOptions, RangeScaling, SegmentSpec

DEPTH_SMOOTHING = 1.0
"""Gaussian sigma, pixels: a ragged outline gives many small maxima of depth, not many objects."""

PREPARE_BYTES = 96
FINISH_BYTES = 64
"""At these stages' peaks, for each pixel; measured: up to 73 (`colour`) and 58."""

FeatureMap = npt.NDArray[np.float32]
"""(H, W) float32: what the threshold is put on."""

Mask = npt.NDArray[np.bool_]

Sample = TypeVar("Sample", np.bool_, np.float32)


class ClassicalSegmenter:
    """Threshold and watershed; deterministic, and of any pixel type.

    Objects have no score (NaN) and class 1. Holes in an object are part of it.

    Raises:
        SpecError: the spec's options are not `ClassicalOptions`.
    """

    def __init__(self, spec: SegmentSpec) -> None:
        if not isinstance(spec.options, ClassicalOptions):
            raise SpecError(f"model {spec.model.name!r} has options for {spec.options.kind!r}")
        self.spec = spec
        self._options = spec.options

    def footprint(self, header: Header) -> Footprint:
        """In proportion to the pixels."""
        pixels = header.height * header.width
        feature = 4 * pixels
        return Footprint(feature, PREPARE_BYTES * pixels, feature, FINISH_BYTES * pixels)

    def prepare(self, image: DecodedImage) -> FeatureMap:
        """The feature of each pixel, smoothed."""
        values = _feature(image.pixels, self._options)
        smooth: FeatureMap = ndimage.gaussian_filter(values, self._options.smoothing)
        return smooth

    def forward(self, batch: Sequence[FeatureMap]) -> Sequence[FeatureMap]:
        """Nothing: there is no device to use."""
        return batch

    def finish(self, raw: FeatureMap, image: DecodedImage) -> Segmentation:  # noqa: ARG002
        """Objects: what the threshold sets apart from the background, split where they touch."""
        foreground = ndimage.binary_fill_holes(_foreground(raw, self._options))
        labels = _split(foreground, self._options.min_distance)
        areas = np.bincount(labels.ravel())
        labels[areas[labels] < self._options.min_area] = 0
        return from_label_image(labels)


def _feature(pixels: Pixels, options: ClassicalOptions) -> FeatureMap:
    values = _unit_range(pixels)
    grey: FeatureMap = values.mean(2)
    match options.feature:
        case "intensity":
            return grey
        case "colour":
            return _colour_distance(values)
        case "density":
            density: FeatureMap = ndimage.uniform_filter(grey, options.window)
            return density
        case "texture":
            return _local_deviation(grey, options.window)


def _unit_range(pixels: Pixels) -> npt.NDArray[np.float32]:
    """(H, W, C) float32 in [0, 1]: the range of uint8 and uint16, else the image's own extremes."""
    low, high = value_range(pixels, RangeScaling())
    # Halves, since the difference of two large floats may be beyond the largest.
    span = high / 2 - low / 2
    if span == 0:
        return np.zeros(pixels.shape, np.float32)
    return ((pixels / 2.0 - low / 2) / span).astype(np.float32)


def _colour_distance(values: npt.NDArray[np.float32]) -> FeatureMap:
    """Distance in CIELAB from the background's colour, which is the median along the border."""
    lab: npt.NDArray[np.float32] = color.rgb2lab(np.broadcast_to(values, (*values.shape[:2], 3)))
    background = np.median(_border(lab), axis=0)
    distance: FeatureMap = np.sqrt(((lab - background) ** 2).sum(2)).astype(np.float32)
    return distance


def _local_deviation(grey: FeatureMap, window: int) -> FeatureMap:
    """Standard deviation of the pixels in a square window."""
    wide = grey.astype(np.float64)
    mean = ndimage.uniform_filter(wide, window)
    variance = ndimage.uniform_filter(wide**2, window) - mean**2
    # A flat window's variance is a rounding error, which may be negative.
    variance[variance < 1e-12] = 0
    deviation: FeatureMap = np.sqrt(variance).astype(np.float32)
    return deviation


def _foreground(values: FeatureMap, options: ClassicalOptions) -> Mask:
    if values.min() == values.max():
        return np.zeros(values.shape, np.bool_)
    match options.threshold:
        case "otsu":
            level = filters.threshold_otsu(values)
        case "li":
            level = filters.threshold_li(values)
        case "triangle":
            level = filters.threshold_triangle(values)
    above: Mask = values > level
    match options.polarity:
        case "bright":
            return above
        case "dark":
            return ~above
        case "auto":
            background_is_bright = _border(above).mean() > 0.5
            return ~above if background_is_bright else above


def _border(values: npt.NDArray[Sample]) -> npt.NDArray[Sample]:
    """The pixels along the image's four sides; corners of an image count twice."""
    return np.concatenate((values[0], values[-1], values[:, 0], values[:, -1]))


def _split(foreground: Mask, min_distance: int) -> npt.NDArray[np.int32]:
    """Label image: one basin for each maximum of the distance to the background."""
    # Without a background the distance is to the outside of the image.
    depth = ndimage.distance_transform_edt(np.pad(foreground, 1))[1:-1, 1:-1]
    depth = ndimage.gaussian_filter(depth, DEPTH_SMOOTHING)
    parts, _ = ndimage.label(foreground)
    centres = feature.peak_local_max(
        depth, min_distance=min_distance, labels=parts, exclude_border=False
    )
    markers = np.zeros(foreground.shape, np.int32)
    markers[tuple(centres.T)] = np.arange(1, len(centres) + 1)
    labels: npt.NDArray[np.int32] = segmentation.watershed(-depth, markers, mask=foreground)
    return labels
