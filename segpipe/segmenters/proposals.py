"""Selective search: boxes that may hold an object, found by grouping similar neighbours.

Uijlings et al., "Selective search for object recognition" (International Journal of Computer
Vision, 2013), in OpenCV's implementation; its modes are those of the paper's table 5.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from segpipe.errors import SpecError

SMOOTHING = 0.8
"""Sigma of the Gaussian before the first segmentation, pixels, as in the paper."""

SEARCH_BYTES = 16 << 20
SEARCH_PIXEL_BYTES = 400
"""Of selective search at its peak: whatever the image's size, and for each pixel searched; measured
for images of 256 x 256 to 1024 x 1024: 170 to 550 for each pixel in all."""

Boxes = npt.NDArray[np.float32]
"""(P, 4) x0, y0, x1, y1 in pixels, half open."""

Image = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Search:
    """How regions are proposed.

    Attributes:
        mode: 1, 8 or 80 groupings of the image: `single`, `fast` or `quality` of the paper.
        min_region: of the first segmentation, pixels; the paper lets it grow with the scale, and
            so loses small objects.
        max_side: a longer side is shrunk to this first; on noise, time goes with the square
            of the number of pixels.
        min_side: both sides of a proposal are at least this long, pixels of the image.
    """

    mode: Literal["single", "fast", "quality"] = "fast"
    min_region: int = 20
    max_side: int = 1024
    min_side: int = 8


@dataclass(frozen=True, slots=True)
class _Mode:
    """Colour spaces, scales of the first segmentation, and what similarity is made of."""

    colours: tuple[str, ...]
    scales: tuple[int, ...]
    similarities: tuple[str, ...]


_MODES = {
    "single": _Mode(("HSV",), (100,), ("CTSF",)),
    "fast": _Mode(("HSV", "Lab"), (50, 100), ("CTSF", "TSF")),
    "quality": _Mode(
        ("HSV", "Lab", "rgI", "H", "I"), (50, 100, 150, 300), ("CTSF", "TSF", "F", "S")
    ),
}


def require_opencv() -> ModuleType:
    """OpenCV with its contributed modules.

    Raises:
        SpecError: it is not installed, or without them.
    """
    try:
        import cv2
        import cv2.ximgproc.segmentation
    except ImportError:
        raise SpecError(
            "selective search needs OpenCV with its contributed modules, which is not installed: "
            "pip install 'segpipe[rcnn]' (opencv-python alone lacks them; uninstall it first)"
        ) from None
    return cv2


def selective_search(image: Image, search: Search) -> Boxes:
    """Boxes around the regions of every grouping, each once.

    The same image gives the same boxes in the same order. The order says nothing: the paper's own
    is by depth in the grouping times a random number, which OpenCV takes from C's `rand`; here it
    is a fixed shuffle, so that any first part of it is a fair sample.

    Args:
        image: (H, W, 3), red first.

    Raises:
        SpecError: OpenCV is missing.
    """
    cv2 = require_opencv()
    height, width = image.shape[:2]
    scale = min(1.0, search.max_side / max(height, width))
    if scale < 1:
        size = max(1, round(width * scale)), max(1, round(height * scale))
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    corners = _group(cv2, image, search)
    factor = np.array([width / image.shape[1], height / image.shape[0]] * 2)
    boxes = np.unique((corners * factor).astype(np.float32), axis=0)
    large = ((boxes[:, 2:] - boxes[:, :2]) >= search.min_side).all(axis=1)
    kept: Boxes = boxes[large]
    return np.random.default_rng(0).permutation(kept)


def to_bytes(
    planes: npt.NDArray[np.float32], mean: tuple[float, ...], std: tuple[float, ...]
) -> Image:
    """Normalised planes (3, H, W) back to (H, W, 3) with 0..1 as 0..255, clipped."""
    column = (3, 1, 1)
    values = planes * np.reshape(std, column) + np.reshape(mean, column)
    image: Image = np.rint(np.clip(values, 0, 1) * 255).astype(np.uint8)
    return np.ascontiguousarray(image.transpose(1, 2, 0))


def _group(cv2: ModuleType, image: Image, search: Search) -> npt.NDArray[np.int64]:
    """(P, 4) x0, y0, x1, y1 of the regions of all groupings, in no order."""
    segmentation = cv2.ximgproc.segmentation
    mode = _MODES[search.mode]
    searcher = segmentation.createSelectiveSearchSegmentation()
    searcher.setBaseImage(image)
    for colours in mode.colours:
        searcher.addImage(_in_colours(cv2, image, colours))
    for scale in mode.scales:
        searcher.addGraphSegmentation(
            segmentation.createGraphSegmentation(SMOOTHING, scale, search.min_region)
        )
    for similarity in mode.similarities:
        searcher.addStrategy(_strategy(segmentation, similarity))
    x, y, width, height = np.asarray(searcher.process(), np.int64).reshape(-1, 4).T
    return np.stack([x, y, x + width, y + height], axis=1)


def _in_colours(cv2: ModuleType, image: Image, colours: str) -> Image:
    """The image in a colour space of the paper's; rgI is normalised red and green, and I."""
    match colours:
        case "HSV":
            converted = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
        case "Lab":
            converted = cv2.cvtColor(image, cv2.COLOR_RGB2LAB)
        case "H":
            converted = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)[..., :1]
        case "I":
            converted = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        case _:
            total = np.maximum(image.sum(axis=2, keepdims=True), 1)
            share = (image[..., :2] * (255.0 / total)).astype(np.uint8)
            converted = np.dstack([share, cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)])
    result: Image = np.ascontiguousarray(converted)
    return result


def _strategy(segmentation: ModuleType, similarity: str) -> Any:
    """Colour, texture, size and fill, each with the same weight."""
    name = "createSelectiveSearchSegmentationStrategy"
    parts = {"C": "Color", "T": "Texture", "S": "Size", "F": "Fill"}
    chosen = [getattr(segmentation, name + parts[letter])() for letter in similarity]
    return getattr(segmentation, name + "Multiple")(*chosen) if len(chosen) > 1 else chosen[0]
