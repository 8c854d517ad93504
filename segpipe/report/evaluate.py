"""How well a store agrees with a truth: `segpipe eval`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from segpipe.errors import SpecError
from segpipe.measure.coco import CocoImage, Kind, rank_coco
from segpipe.measure.evaluation import Agreement
from segpipe.measure.scores import (
    Estimate,
    Key,
    Scores,
    coco_area_scores,
    coco_scores,
    estimate,
    instance_scores,
    semantic_scores,
)
from segpipe.measure.semantic import SemanticAgreement
from segpipe.report.comparison import Comparison
from segpipe.report.evaluation import Group, Intervals, NotCompared, StoreEvaluation
from segpipe.report.evaluation_table import format_evaluation
from segpipe.report.objects import compare
from segpipe.report.subgroups import ImageIndex
from segpipe.store.snapshot import Snapshot

__all__ = ["evaluate", "evaluate_store", "format_evaluation"]


def evaluate_store(snapshot: Snapshot, truth: Path | Sequence[Path]) -> StoreEvaluation:
    """Compare the newest result of every `ok` image with its truth, without intervals.

    Args:
        truth: folder of PNG or TIFF label images (of class images for a semantic model; 0 is
            background), or COCO annotation files.

    Raises:
        SpecError: nothing fits, a name fits twice, or a truth is unreadable or of another shape.
    """
    files = [truth] if isinstance(truth, Path) else truth
    return evaluate(Comparison(snapshot, files), None, Intervals(resamples=0))


def evaluate(
    comparison: Comparison, index: ImageIndex | None, intervals: Intervals
) -> StoreEvaluation:
    """Compare, and give every number with its interval, for all images and for subgroups.

    Args:
        index: holds the columns that `intervals` names.

    Raises:
        SpecError: a truth does not fit, or the index does not.
    """
    # Before masks are read, which takes long: the index may be wrong.
    members = _members(comparison.names, index, intervals.by)
    units = _units(comparison.names, index, intervals.cluster)
    found = _classes(comparison) if comparison.model.task == "semantic" else _objects(comparison)
    groups = [_group(name, chosen, units, found, intervals) for name, chosen in members]
    return StoreEvaluation(
        models=comparison.model.names,
        task=comparison.model.task,
        classes=comparison.classes,
        images=found.images,
        by_class=found.by_class,
        whole=groups[0],
        groups=tuple(groups[1:]),
        images_without_truth=comparison.images_without_truth,
        truth_without_image=comparison.truth_without_image,
        not_compared=found.not_compared,
        intervals=intervals,
    )


@dataclass(frozen=True, slots=True)
class _Found:
    """What the masks gave; `points` are numbers that get no interval."""

    images: tuple[Agreement, ...] | tuple[SemanticAgreement, ...]
    scores: list[Scores]
    points: list[Scores] = field(default_factory=list)
    by_class: dict[int, Agreement] = field(default_factory=dict)
    not_compared: NotCompared = field(default_factory=NotCompared)


def _classes(comparison: Comparison) -> _Found:
    """The agreement of class images."""
    images = tuple(comparison.class_agreement(i) for i in range(len(comparison.pairs)))
    return _Found(images, [semantic_scores(images)])


def _objects(comparison: Comparison) -> _Found:
    """The agreement of objects, and COCO's numbers where all of them have a score."""
    boxes = comparison.model.task == "boxes"
    n_classes = len(comparison.classes)
    images: list[dict[int, Agreement]] = []
    kinds: dict[str, Kind] = {"coco_box_": "bbox"}
    if not boxes:
        kinds["coco_mask_"] = "segm"
    coco: dict[str, list[CocoImage]] = {prefix: [] for prefix in kinds}
    scored = True
    truth_of_other, predicted_of_other = Counter[str](), Counter[str]()
    hidden = crowds = 0
    for i, name in enumerate(comparison.names):
        truth, predicted = comparison.objects(i)
        found_in = compare(truth, predicted, boxes)
        images.append({c: Agreement.of_overlaps(name, o.overlaps) for c, o in found_in.items()})
        for prefix, kind in kinds.items():
            coco[prefix].append(CocoImage(truth.objects, predicted.objects, kind))
        scored &= predicted.scored
        truth_of_other += truth.other_classes
        predicted_of_other += predicted.other_classes
        hidden += truth.hidden
        crowds += sum(one.crowd for one in truth.objects)
    by_class = {
        c: Agreement.pool(name, [image[c] for image in images if c in image])
        for c, name in enumerate(comparison.classes)
    }
    found = _Found(
        images=tuple(
            Agreement.pool(name, list(image.values()))
            for name, image in zip(comparison.names, images, strict=True)
        ),
        scores=[instance_scores(images, n_classes)],
        by_class={c: one for c, one in by_class.items() if one.n_truth + one.n_predicted},
        not_compared=NotCompared(
            dict(truth_of_other.most_common()),
            dict(predicted_of_other.most_common()),
            hidden,
            crowds,
            sum(one.n_excused for one in by_class.values()),
        ),
    )
    if not scored or not sum(one.n_predicted + one.n_excused for one in by_class.values()):
        return found
    matches = {prefix: rank_coco(own, n_classes) for prefix, own in coco.items()}
    return replace(
        found,
        scores=[
            *found.scores,
            *(coco_scores(one, prefix, n_classes) for prefix, one in matches.items()),
        ],
        points=[coco_area_scores(one, prefix) for prefix, one in matches.items()],
    )


def _group(
    name: str | None,
    chosen: npt.NDArray[np.bool_],
    units: Sequence[Hashable],
    found: _Found,
    intervals: Intervals,
) -> Group:
    scores: dict[Key, Estimate] = {}
    for one in found.scores:
        scores |= estimate(one, chosen, units, intervals.seed, intervals.resamples, intervals.level)
    for one in found.points:
        scores |= estimate(one, chosen, units, intervals.seed, 0, intervals.level)
    own = {unit for unit, member in zip(units, chosen, strict=True) if member}
    return Group(name, int(chosen.sum()), len(own), scores)


def _members(
    names: Sequence[str], index: ImageIndex | None, by: str | None
) -> list[tuple[str | None, npt.NDArray[np.bool_]]]:
    """All images, then those of each value of a column; at last those that are not listed."""
    groups: list[tuple[str | None, npt.NDArray[np.bool_]]] = [("all", np.ones(len(names), bool))]
    if by is not None:
        values = _column(names, index, by)
        listed = sorted({value for value in values if value is not None})
        rest = [None] if None in values else []
        groups += [(one, np.array([value == one for value in values])) for one in [*listed, *rest]]
    return groups


def _units(names: Sequence[str], index: ImageIndex | None, cluster: str | None) -> list[str]:
    """What is resampled: the cluster of each image, or the image."""
    if cluster is None:
        return list(map(str, range(len(names))))
    values = _column(names, index, cluster)
    for name, value in zip(names, values, strict=True):
        if value is None and index is not None:
            raise SpecError(f"{index.path}: {name} is not listed, so its {cluster} is not known")
    return [str(value) for value in values]


def _column(names: Sequence[str], index: ImageIndex | None, column: str) -> list[str | None]:
    if index is None:
        raise SpecError(f"column {column!r} needs an index of the images (--index FILE.csv)")
    return index.column(column, names)
