"""The worst, the median and the best image of an evaluation: image, truth and prediction.

Of instances, what was matched at IoU 0.5 is blue and thinly outlined on both sides; what was
missed, in the truth, and what is wrong, in the prediction, is orange and boldly outlined; crowds,
and what a panoptic truth leaves open, are grey. Of classes, each has its colour, and the true
outline is drawn white over the prediction. The colours are those of Okabe and Ito (Color Universal
Design, 2008).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from skimage.segmentation import find_boundaries

from segpipe.geometry import Box
from segpipe.measure.evaluation import THRESHOLDS, Agreement
from segpipe.measure.semantic import SemanticAgreement
from segpipe.report.caption import Entry, add_caption, printable
from segpipe.report.comparison import Comparison
from segpipe.report.display import PALETTE, Picture, class_colours, display, shown
from segpipe.report.evaluation import StoreEvaluation
from segpipe.report.objects import Mask, PredictedObjects, TrueObjects, compare
from segpipe.report.source import open_source, overview_level
from segpipe.store.snapshot import Row, is_large

PANEL = 560
"""Longer side of each panel, pixels."""

_GAP = 6
_TEXT = 22
_MARGIN = 0.1
_RIGHT, _WRONG = PALETTE[1], PALETTE[5]
_GREY = 170
_OPACITY = 0.4

Labels = npt.NDArray[np.integer[Any]]


def draw_examples(comparison: Comparison, evaluation: StoreEvaluation) -> Image.Image:
    """The figure: three rows of three panels, each row with its number.

    Images are ranked by AP (mean over IoU 0.5 to 0.95), or by Dice (mean over the classes that
    occur); those where nothing is true and nothing was predicted are left out unless all are so.

    Args:
        evaluation: of this comparison.

    Raises:
        InputError: an image is gone, or is not the one that was segmented.
    """
    rows = [
        _draw_row(comparison, evaluation, title, index)
        for title, index in choose(evaluation.images).items()
    ]
    width = max(row.shape[1] for row in rows)
    padded = [np.pad(row, ((0, 2 * _GAP), (0, width - row.shape[1]), (0, 0))) for row in rows]
    return Image.fromarray(add_caption(np.concatenate(padded), _legend(comparison), _TEXT))


def choose(images: Sequence[Agreement | SemanticAgreement]) -> dict[str, int]:
    """Index of the worst, the median (the lower one) and the best image; each once."""
    used = [i for i, image in enumerate(images) if not _is_empty(image)] or range(len(images))
    ranked = sorted(used, key=lambda i: (_number(images[i]), images[i].name))
    places = {"worst": 0, "median": (len(ranked) - 1) // 2, "best": len(ranked) - 1}
    chosen: dict[str, int] = {}
    for title, place in places.items():
        if ranked[place] not in chosen.values():
            chosen[title] = ranked[place]
    return chosen


def _is_empty(image: Agreement | SemanticAgreement) -> bool:
    if isinstance(image, Agreement):
        return not image.n_truth + image.n_predicted
    return not (image.truth_pixels + image.predicted_pixels)[1:].any()


def _number(image: Agreement | SemanticAgreement) -> float:
    return image.ap if isinstance(image, Agreement) else image.mean_dice


def _draw_row(
    comparison: Comparison, evaluation: StoreEvaluation, title: str, index: int
) -> Picture:
    row, _ = comparison.pairs[index]
    agreement = evaluation.images[index]
    if isinstance(agreement, Agreement):
        truth, predicted = comparison.objects(index)
        window = _window((truth.labels > 0) | (predicted.labels > 0))
        image = _picture(row, window)
        panels = _objects(image, truth, predicted, window, evaluation.task == "boxes")
        counts = [
            Entry(f"AP {agreement.ap:.2f}, at IoU 0.50 {agreement.precisions[0]:.2f}"),
            Entry(f"{agreement.n_truth:,} true, {agreement.n_predicted:,} predicted"),
            Entry(f"{agreement.true_positives[0]:,} matched"),
        ]
    else:
        true, found = comparison.class_images(index)
        window = _window((true > 0) | (found > 0))
        image = _picture(row, window)
        panels = _classes(image, true[window], found[window])
        counts = [Entry(f"Dice {agreement.mean_dice:.2f}, IoU {agreement.mean_iou:.2f}")]
    gap = np.full((image.shape[0], _GAP, 3), 255, np.uint8)
    drawn = np.concatenate([image, gap, panels[0], gap, panels[1]], axis=1)
    return add_caption(drawn, [Entry(f"{title}:"), *counts, Entry(printable(row["path"]))], _TEXT)


def _window(region: Mask) -> tuple[slice, slice]:
    """The part of an image around a region, with some margin; all of it where there is none."""
    height, width = region.shape
    margin = round(_MARGIN * max(height, width))
    ends = []
    for axis, side in ((1, height), (0, width)):
        used = np.flatnonzero(region.any(axis=axis))
        first, last = (int(used[0]), int(used[-1])) if len(used) else (0, side)
        ends.append(slice(max(0, first - margin), min(side, last + 1 + margin)))
    return ends[0], ends[1]


def _picture(row: Row, window: tuple[slice, slice]) -> Picture:
    """The pixels of a window of an image, as a panel shows them."""
    rows, columns = window
    shape = rows.stop - rows.start, columns.stop - columns.start
    with open_source(row) as source:
        if not is_large(row):
            pixels = display(source.read(source.whole))[window]
            return _resize(pixels, Image.Resampling.LANCZOS)
        level = overview_level(shape, 4 * PANEL)
        side = 2**level
        ends = rows.start // side, columns.start // side, -(-rows.stop // side)
        part = Box(*ends, -(-columns.stop // side))
        pixels = shown(source.read(part, level), source.contrast)
        return _resize(pixels, Image.Resampling.LANCZOS, shape)


def _resize(
    pixels: npt.NDArray[Any], how: Image.Resampling, shape: tuple[int, int] | None = None
) -> npt.NDArray[Any]:
    """To a longer side of `PANEL`; label images by the nearest pixel.

    Args:
        shape: (H, W) in the image; None for that of `pixels`.
    """
    height, width = shape or pixels.shape[:2]
    scale = PANEL / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    if scale >= 1:
        how = Image.Resampling.NEAREST
    return np.asarray(Image.fromarray(pixels).resize(size, how))


def _objects(
    image: Picture,
    truth: TrueObjects,
    predicted: PredictedObjects,
    window: tuple[slice, slice],
    boxes: bool,
) -> tuple[Picture, Picture]:
    """The panels of truth and prediction; crowds and what nothing is known of are grey."""
    unclear = np.zeros(truth.labels.shape, np.bool_) if truth.void is None else truth.void.copy()
    for crowd in truth.crowds.values():
        unclear |= crowd
    background = _shade(image, unclear[window])
    right = _matched(truth, predicted, boxes)
    compared = np.where(predicted.class_of[predicted.labels] >= 0, predicted.labels, 0)
    return (
        _paint_objects(background, truth.labels[window], right[0]),
        _paint_objects(background, compared[window], right[1]),
    )


def _matched(truth: TrueObjects, predicted: PredictedObjects, boxes: bool) -> tuple[Mask, Mask]:
    """Of each label on both sides, whether an object of its class matches it."""
    right = np.zeros(len(truth.class_of), bool), np.zeros(len(predicted.class_of), bool)
    for one in compare(truth, predicted, boxes).values():
        enough = one.overlaps.iou >= THRESHOLDS[0]
        right[0][one.truth_labels[one.overlaps.truth[enough]]] = True
        right[1][one.predicted_labels[one.overlaps.predicted[enough]]] = True
    return right


def _paint_objects(image: Picture, labels: Labels, right: Mask) -> Picture:
    small = _resize(labels.astype(np.int32), Image.Resampling.NEAREST)
    colours = np.where(right[small][..., None], _RIGHT, _WRONG)
    bold = find_boundaries(np.where(right[small], 0, small), connectivity=2, mode="thick")
    thin = find_boundaries(small, mode="inner")
    inside, line = small > 0, (thin | bold) & (small > 0)
    painted = image.astype(np.float64)
    painted[inside] = (1 - _OPACITY) * painted[inside] + _OPACITY * colours[inside]
    painted[line] = colours[line]
    return np.rint(painted).astype(np.uint8)


def _shade(image: Picture, region: Mask) -> Picture:
    small = _resize(region.astype(np.uint8), Image.Resampling.NEAREST) > 0
    shaded = image.copy()
    shaded[small] = image[small] // 3 + np.uint8(_GREY)
    return shaded


def _classes(image: Picture, truth: Labels, predicted: Labels) -> tuple[Picture, Picture]:
    colours = class_colours(int(max(truth.max(initial=0), predicted.max(initial=0))) + 1)
    small = [_resize(one.astype(np.int32), Image.Resampling.NEAREST) for one in (truth, predicted)]
    panels = [_paint_classes(image, one, colours) for one in small]
    panels[1][find_boundaries(small[0], mode="thick")] = 255
    return panels[0], panels[1]


def _paint_classes(image: Picture, classes: Labels, colours: npt.NDArray[np.uint8]) -> Picture:
    painted = image.astype(np.float64)
    inside, line = classes > 0, find_boundaries(classes, mode="inner")
    painted[inside] = (1 - _OPACITY) * painted[inside] + _OPACITY * colours[classes[inside]]
    painted[line] = colours[classes[line]]
    return np.rint(painted).astype(np.uint8)


def _legend(comparison: Comparison) -> list[Entry]:
    panels = Entry("left: image, cut to its objects; middle: truth; right: prediction")
    if comparison.model.task != "semantic":
        entries = [
            panels,
            Entry("matched at IoU 0.50", _rgb(_RIGHT)),
            Entry("missed, or wrong", _rgb(_WRONG)),
        ]
        unclear = Entry("not annotated one by one", (_GREY,) * 3)
        return [*entries, unclear] if comparison.has_crowds else entries
    colours = class_colours(len(comparison.classes))
    return [
        panels,
        *(
            Entry(printable(name), _rgb(colours[c]))
            for c, name in enumerate(comparison.classes)
            if c > 0
        ),
        Entry("true outline, over the prediction", (255, 255, 255)),
    ]


def _rgb(colour: npt.NDArray[np.uint8]) -> tuple[int, int, int]:
    red, green, blue = colour.tolist()
    return red, green, blue
