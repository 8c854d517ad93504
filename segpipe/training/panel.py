"""Validation images beside their truth and what the model makes of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw
from scipy import ndimage

from segpipe.measure.boxes import box_agreement
from segpipe.measure.evaluation import Agreement
from segpipe.measure.semantic import SemanticAgreement
from segpipe.records import Segmentation
from segpipe.report.caption import text_font
from segpipe.report.display import Picture, class_colours, display, neighbour_colours
from segpipe.segmenters.base import Segmenter
from segpipe.training.data import Example
from segpipe.training.evaluate import segment

WIDTH = 420
"""Of each of the three pictures in a row, pixels."""

_MARGIN, _TEXT, _OPACITY = 10, 20, 0.5
_INK, _PAPER = (20, 20, 20), (255, 255, 255)


def draw_panel(segmenter: Segmenter[Any, Any], examples: Sequence[Example]) -> Image.Image:
    """The worst, the lower quartile, the median and the best image; a row each."""
    results = [(one, segment(segmenter, one)) for one in examples]
    scored = [(_agreement(segmenter, one, found), one, found) for one, found in results]
    scored.sort(key=lambda entry: (entry[0], entry[1].name))
    places = {"worst": 0, "lower quartile": len(scored) // 4, "median": len(scored) // 2}
    places["best"] = len(scored) - 1
    task = segmenter.spec.model.task
    measure = "Dice" if task == "semantic" else "AP, IoU 0.5 to 0.95"
    rows = [
        _row(f"{place}: {scored[at][0]:.2f} ({measure})  {scored[at][1].name}", *scored[at][1:])
        for place, at in places.items()
    ]
    panel = Image.new("RGB", (rows[0].width, sum(row.height for row in rows)), _PAPER)
    y = 0
    for row in rows:
        panel.paste(row, (0, y))
        y += row.height
    return panel


def _agreement(segmenter: Segmenter[Any, Any], one: Example, found: Segmentation) -> float:
    model = segmenter.spec.model
    if found.semantic is not None:
        classes = len(model.classes)
        return SemanticAgreement.of(one.name, one.classes, found.semantic, classes).mean_dice
    if model.task == "boxes":
        return box_agreement(one.name, one.labels, found).ap
    return Agreement.of(one.name, one.labels, found.label_image).ap


def _row(title: str, one: Example, found: Segmentation) -> Image.Image:
    image = display(one.pixels)
    if found.semantic is not None:
        masks = [_classes(image, one.classes), _classes(image, found.semantic)]
    else:
        masks = [_objects(image, one.labels), _objects(image, found.label_image)]
    pictures = [_fit(picture) for picture in (image, *masks)]
    height = pictures[0].height + 2 * _TEXT + _MARGIN
    row = Image.new("RGB", (3 * (WIDTH + _MARGIN) + _MARGIN, height), _PAPER)
    draw = ImageDraw.Draw(row)
    font = text_font(14)
    draw.text((_MARGIN, 2), title, _INK, font)
    for column, (name, picture) in enumerate(
        zip(("image", "truth", "prediction"), pictures, strict=True)
    ):
        x = _MARGIN + column * (WIDTH + _MARGIN)
        draw.text((x, _TEXT + 1), name, _INK, font)
        row.paste(picture, (x, 2 * _TEXT))
    return row


def _objects(image: Picture, labels: npt.NDArray[np.integer[Any]]) -> Picture:
    """An object that others hide has no pixel, and so no colour."""
    seen, compact = np.unique(labels, return_inverse=True)
    numbers = range(1, len(seen)) if seen[0] == 0 else range(len(seen))
    compact = compact.reshape(labels.shape)
    centres = ndimage.center_of_mass(np.ones(labels.shape), compact, list(numbers))
    colours = np.zeros((len(seen), 3), np.uint8)
    colours[list(numbers)] = neighbour_colours(np.array(centres, np.float64).reshape(-1, 2))
    return _blend(image, colours[compact], labels > 0)


def _classes(image: Picture, classes: npt.NDArray[np.integer[Any]]) -> Picture:
    return _blend(image, class_colours(int(classes.max()) + 1)[classes], classes > 0)


def _blend(image: Picture, colour: Picture, where: npt.NDArray[np.bool_]) -> Picture:
    blended = np.where(where[..., None], (1 - _OPACITY) * image + _OPACITY * colour, image)
    return blended.astype(np.uint8)


def _fit(picture: Picture) -> Image.Image:
    image = Image.fromarray(picture)
    return image.resize((WIDTH, round(image.height * WIDTH / image.width)))
