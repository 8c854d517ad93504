"""R-CNN, Faster R-CNN and Mask R-CNN on the same images, with the same backbone.

    R-CNN         selective search; the backbone on every region      Girshick et al., CVPR 2014
    Faster R-CNN  the backbone once; proposals from its features      Ren et al., NeurIPS 2015
    Mask R-CNN    the same, and a mask for every object               He et al., ICCV 2017

Faster R-CNN is the Mask R-CNN of the same weights without its mask head.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, median
from typing import Any

import numpy as np
import numpy.typing as npt

from segpipe.bench.images import BenchImage
from segpipe.bench.stages import Contestant, DetectorContestant, Pass, RCNNContestant, Seconds
from segpipe.errors import SpecError
from segpipe.measure.boxes import box_agreement, box_iou, boxes_of
from segpipe.measure.evaluation import Agreement
from segpipe.segmenters.base import Segmenter
from segpipe.segmenters.build import build
from segpipe.segmenters.catalog import ResolvedModel, resolve_model
from segpipe.segmenters.detectors import DetectorSegmenter
from segpipe.segmenters.rcnn import RCNNSegmenter
from segpipe.segmenters.weights import load_tensors, read_header, save

R_CNN, FASTER, MASK = "R-CNN", "Faster R-CNN", "Mask R-CNN"

BACKBONES = {"rcnn": "lite0", "mask_rcnn": "lite0_fpn"}
"""Kind -> backbone of the architecture: the same encoder, which R-CNN has without a pyramid."""

RECALL_AT = (10, 30, 100, 300, 1000, 10_000)
"""Numbers of proposals."""

RECALL_IOU = 0.5

_MASK_HEAD = ("roi_heads.mask_head.", "roi_heads.mask_predictor.")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a model did with all images.

    Attributes:
        seconds: per image; the median of the rounds, and of that the mean over the images.
        proposals: mean number per image.
        recall: share of the true objects that one of the first N proposals overlaps by an IoU of
            at least 0.5, for each N of `RECALL_AT`; None without truth.
        box_ap50: TP / (TP + FP + FN) of the boxes found, at IoU 0.5, pooled; None without truth.
    """

    seconds: Seconds
    proposals: float
    recall: tuple[float, ...] | None
    box_ap50: float | None


def resolve_family(
    rcnn: str, mask_rcnn: str, device: str, folder: Path
) -> dict[str, ResolvedModel]:
    """The three models.

    Args:
        rcnn, mask_rcnn: names of models, or weights files.
        folder: where the weights of Faster R-CNN are written.

    Raises:
        SpecError: no such model, one of another kind, or backbones that differ.
        WeightsError: a weights file that is refused.
    """
    first, last = _resolve(rcnn, "rcnn", device), _resolve(mask_rcnn, "mask_rcnn", device)
    assert last.weights_path is not None
    weights = folder / "faster-rcnn.safetensors"
    write_without_masks(last.weights_path, weights)
    return {R_CNN: first, FASTER: _resolve_model(str(weights), device), MASK: last}


def write_without_masks(weights: Path, out: Path) -> None:
    """The weights of a Mask R-CNN as those of a Faster R-CNN."""
    header = read_header(weights)
    tensors = {
        name: tensor
        for name, tensor in load_tensors(weights).items()
        if not name.startswith(_MASK_HEAD)
    }
    save(out, tensors, header.model_copy(update={"kind": "faster_rcnn", "task": "boxes"}))


def build_family(
    rcnn: str, mask_rcnn: str, device: str, threads: int | None
) -> tuple[dict[str, ResolvedModel], dict[str, Contestant]]:
    """The three models, loaded; raises as `resolve_family` does."""
    with tempfile.TemporaryDirectory() as folder:
        models = resolve_family(rcnn, mask_rcnn, device, Path(folder))
        built = {
            name: build(model.spec, model.weights_path, threads) for name, model in models.items()
        }
    return models, {name: _contestant(segmenter) for name, segmenter in built.items()}


def compare(
    contestants: Mapping[str, Contestant],
    images: Sequence[BenchImage],
    rounds: int,
    observe: Callable[[str], None],
) -> dict[str, Outcome]:
    """Every model on every image, and an uncounted round before, to warm up.

    In a round the models do an image one after the other, so that whatever else the machine does
    meets them all.

    Args:
        observe: is told the name of each image that is done.
    """
    passes: dict[str, list[list[Pass]]] = {name: [] for name in contestants}
    for one in images:
        runs: dict[str, list[Pass]] = {name: [] for name in contestants}
        for _ in range(1 + rounds):
            for name, contestant in contestants.items():
                runs[name].append(contestant.run(one.image))
        for name, counted in runs.items():
            passes[name].append(counted[1:])
        observe(one.name)
    return {name: _outcome(images, runs) for name, runs in passes.items()}


def proposals_needed(
    truth: npt.NDArray[np.float64], proposals: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """How many proposals, in their order, until one overlaps each true box by `RECALL_IOU`.

    Args:
        truth: (N, 4); proposals: (P, 4); both x0, y0, x1, y1.

    Returns:
        (N,) from 1 to P; infinity where none does.
    """
    if not len(proposals):
        return np.full(len(truth), np.inf)
    enough = box_iou(truth, proposals) >= RECALL_IOU
    return np.where(enough.any(axis=1), enough.argmax(axis=1) + 1.0, np.inf)


def _resolve(model: str, kind: str, device: str) -> ResolvedModel:
    resolved = _resolve_model(model, device)
    found = resolved.spec.model
    if found.kind != kind:
        raise SpecError(f"model {model!r} is of the kind {found.kind}; here a {kind} is needed")
    backbone = found.architecture.get("backbone")
    if backbone != BACKBONES[kind]:
        raise SpecError(
            f"model {model!r} has the backbone {backbone!r}; the family is compared with one "
            f"encoder, so a {kind} needs {BACKBONES[kind]!r}"
        )
    return resolved


def _resolve_model(name: str, device: str) -> ResolvedModel:
    return resolve_model(name, "segpipe bench family", device=device)


def _contestant(segmenter: Segmenter[Any, Any]) -> Contestant:
    if isinstance(segmenter, RCNNSegmenter):
        return RCNNContestant(segmenter)
    assert isinstance(segmenter, DetectorSegmenter)
    return DetectorContestant(segmenter)


def _outcome(images: Sequence[BenchImage], passes: Sequence[Sequence[Pass]]) -> Outcome:
    seconds = [
        mean(median(getattr(run.seconds, part) for run in runs) for runs in passes)
        for part in ("proposals", "network", "rest")
    ]
    last = [runs[-1] for runs in passes]
    known = [
        (one.name, one.truth, run)
        for one, run in zip(images, last, strict=True)
        if one.truth is not None
    ]
    agreements = [box_agreement(name, truth, run.found) for name, truth, run in known]
    return Outcome(
        seconds=Seconds(*seconds),
        proposals=mean(len(run.proposals) for run in last),
        recall=_recall([(truth, run) for _, truth, run in known]) if known else None,
        box_ap50=Agreement.pool("all", agreements).precisions[0] if known else None,
    )


def _recall(known: Sequence[tuple[npt.NDArray[np.integer[Any]], Pass]]) -> tuple[float, ...]:
    """For each of `RECALL_AT`, of the objects of all images; 1 where there are none."""
    needed = np.concatenate(
        [
            proposals_needed(boxes_of(truth), run.proposals.astype(np.float64))
            for truth, run in known
        ]
    )
    return tuple(float(np.mean(needed <= n)) if len(needed) else 1.0 for n in RECALL_AT)
