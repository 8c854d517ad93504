"""How well a weights file does on annotated images, run as `segpipe run` runs it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from segpipe.measure.boxes import box_agreement
from segpipe.measure.evaluation import Agreement, Evaluation
from segpipe.measure.semantic import SemanticAgreement
from segpipe.records import Segmentation
from segpipe.segmenters.base import Segmenter
from segpipe.segmenters.build import build
from segpipe.segmenters.catalog import resolve_model
from segpipe.training.data import Example

AP_INDICES = {"ap50": 0, "ap75": 5}
"""Where the reported IoU thresholds stand among `evaluation.THRESHOLDS`."""

Numbers = dict[str, float]


@dataclass(frozen=True, slots=True)
class Scores:
    """How well a model does.

    Attributes:
        metric: the one number that models are chosen by, in [0, 1]: for instances and boxes the
            mean over images of the average precision over IoU 0.5 to 0.95, for classes the mean
            of their Dice, pooled over all pixels.
        groups: subgroup -> the numbers that are reported; `all` is all images.
    """

    metric: float
    groups: dict[str, Numbers]


def load(
    weights: Path,
    device: str,
    precision: str,
    options: Mapping[str, Any] | None = None,
    backend: str = "torch",
) -> Segmenter[Any, Any]:
    """The model of a weights file, with other options if given."""
    model = resolve_model(
        str(weights),
        "a model to evaluate",
        device=device,
        precision=precision,
        backend=backend,
        options=dict(options or {}),
    )
    return build(model.spec, model.weights_path)


def evaluate(segmenter: Segmenter[Any, Any], examples: Iterable[Example]) -> Scores:
    """Segment each image and compare it with its truth."""
    return score(segmenter, ((one, segment(segmenter, one)) for one in examples))


def segment(segmenter: Segmenter[Any, Any], example: Example) -> Segmentation:
    """One image through all three stages."""
    (raw,) = segmenter.forward([segmenter.prepare(example.image)])
    return segmenter.finish(raw, example.image)


def score(
    segmenter: Segmenter[Any, Any], results: Iterable[tuple[Example, Segmentation]]
) -> Scores:
    """Compare results with the truth of their images."""
    model = segmenter.spec.model
    if model.task == "semantic":
        return _semantic(results, model.classes)
    groups: dict[str, list[Agreement]] = defaultdict(list)
    for one, found in results:
        if model.task == "boxes":
            agreement = box_agreement(one.name, one.labels, found)
        else:
            agreement = Agreement.of(one.name, one.labels, found.label_image)
        groups["all"].append(agreement)
        if one.subgroup:
            groups[one.subgroup].append(agreement)
    whole = Evaluation(tuple(groups["all"]))
    return Scores(
        float(np.mean(whole.mean_precisions)),
        {name: _instances(images) for name, images in sorted(groups.items())},
    )


def _instances(images: Sequence[Agreement]) -> Numbers:
    """Average precision TP / (TP + FP + FN), mean over images and pooled over their objects."""
    whole = Evaluation(tuple(images))
    pooled = whole.pooled
    numbers = {"images": float(len(images)), "objects": float(pooled.n_truth)}
    for name, index in AP_INDICES.items():
        numbers[f"{name}_mean"] = round(whole.mean_precisions[index], 4)
        numbers[f"{name}_pooled"] = round(pooled.precisions[index], 4)
    return numbers


def _semantic(results: Iterable[tuple[Example, Segmentation]], classes: Sequence[str]) -> Scores:
    groups: dict[str, list[SemanticAgreement]] = defaultdict(list)
    for one, found in results:
        assert found.semantic is not None
        agreement = SemanticAgreement.of(one.name, one.classes, found.semantic, len(classes))
        groups["all"].append(agreement)
        if one.subgroup:
            groups[one.subgroup].append(agreement)
    report = {}
    for name, images in sorted(groups.items()):
        pooled = SemanticAgreement.pool(name, images)
        report[name] = {"images": float(len(images)), "dice": round(pooled.mean_dice, 4)}
        for class_id, class_name in enumerate(classes[1:], start=1):
            for ratio in ("dice", "iou", "precision", "recall"):
                value = float(getattr(pooled, ratio)[class_id])
                report[name][f"{class_name}_{ratio}"] = round(value, 4)
    return Scores(SemanticAgreement.pool("all", groups["all"]).mean_dice, report)
