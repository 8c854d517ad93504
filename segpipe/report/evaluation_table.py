"""An evaluation as tables for people; every line is shorter than 80 characters."""

from __future__ import annotations

from collections.abc import Iterator

from segpipe.measure.evaluation import THRESHOLDS
from segpipe.measure.scores import Estimate
from segpipe.report.caption import printable
from segpipe.report.evaluation import Group, Intervals, StoreEvaluation

_POOLED_AND_MEAN = [
    ("average precision", "ap", "mean_ap"),
    *(
        (f"  at IoU {threshold:.2f}", f"ap{percent}", f"mean_ap{percent}")
        for threshold in THRESHOLDS
        for percent in [round(100 * threshold)]
    ),
    ("Dice of foreground", "dice", "mean_dice"),
    ("panoptic quality", "pq", ""),
    ("  segmentation quality", "sq", ""),
    ("  recognition quality", "rq", ""),
    ("count error", "", "mean_count_error"),
    ("  absolute", "", "mean_absolute_count_error"),
]

_COCO = [
    ("COCO mAP", "ap"),
    ("  at IoU 0.50", "ap50"),
    ("  at IoU 0.75", "ap75"),
    ("  small objects", "ap_small"),
    ("  medium objects", "ap_medium"),
    ("  large objects", "ap_large"),
]


def format_evaluation(evaluation: StoreEvaluation) -> str:
    """The evaluation as tables: all images, classes, subgroups, and what was not compared."""
    semantic = evaluation.task == "semantic"
    lines = [
        *(_semantic(evaluation) if semantic else _instances(evaluation)),
        "",
        *_counts(evaluation),
    ]
    if evaluation.groups:
        lines += ["", *_groups(evaluation)]
    if any(one.low is not None for one in evaluation.whole.scores.values()):
        lines += ["", *_about_intervals(evaluation.intervals, evaluation.whole.units)]
    return "\n".join(line.rstrip() for line in lines)


def _instances(evaluation: StoreEvaluation) -> Iterator[str]:
    whole = evaluation.whole
    yield _line("", "pooled", "mean per image")
    for title, pooled, mean in _POOLED_AND_MEAN:
        yield _line(title, _score(whole, pooled), _score(whole, mean))
    if ("coco_box_ap", None) in whole.scores:
        yield ""
        yield _line("", "masks" if evaluation.task != "boxes" else "", "boxes")
        for title, name in _COCO:
            masks, boxes = _score(whole, f"coco_mask_{name}"), _score(whole, f"coco_box_{name}")
            yield _line(title, masks, boxes)
    if len(evaluation.classes) > 1:
        yield ""
        yield from _instance_classes(evaluation)


def _instance_classes(evaluation: StoreEvaluation) -> Iterator[str]:
    columns = {
        "AP 0.50": "ap50",
        "AP": "ap",
        "PQ": "pq",
        "mask mAP": "coco_mask_ap",
        "box mAP": "coco_box_ap",
    }
    known = {name for name, _ in evaluation.whole.scores}
    columns = {title: name for title, name in columns.items() if name in known}
    yield f"{'class':20}{'true':>7}{'found':>7}" + "".join(f"{title:>9}" for title in columns)
    for c, counts in sorted(evaluation.by_class.items()):
        scores = (evaluation.whole.scores.get((name, c)) for name in columns.values())
        yield (
            f"{_short(evaluation.classes[c], 19):20}{counts.n_truth:>7,}{counts.n_predicted:>7,}"
            + "".join(f"{_value(one):>9}" for one in scores)
        )


def _semantic(evaluation: StoreEvaluation) -> Iterator[str]:
    whole = evaluation.whole
    yield _line("", "pooled", "mean per image")
    yield _line("Dice, mean of classes", _score(whole, "dice"), _score(whole, "mean_dice"))
    yield _line("IoU, mean of classes", _score(whole, "iou"), _score(whole, "mean_iou"))
    for c, name in enumerate(evaluation.classes):
        yield ""
        yield _short(name)
        yield _line("  Dice", _score(whole, "dice", c), _score(whole, "mean_dice", c))
        yield _line("  IoU", _score(whole, "iou", c), _score(whole, "mean_iou", c))
        yield _line("  precision", _score(whole, "precision", c), "")
        yield _line("  recall", _score(whole, "recall", c), "")


def _counts(evaluation: StoreEvaluation) -> Iterator[str]:
    left = evaluation.not_compared
    counts = {
        "images compared": len(evaluation.images),
        "images without truth": evaluation.images_without_truth,
        "truths without a result": evaluation.truth_without_image,
    }
    if evaluation.task != "semantic":
        pooled = evaluation.instances.pooled
        counts = {"true objects": pooled.n_truth, "predicted objects": pooled.n_predicted} | counts
    seldom = {
        "true crowds": left.crowds,
        "predicted, excused": left.excused,
        "true, hidden by others": left.hidden_truth,
    }
    for title, count in (counts | {key: one for key, one in seldom.items() if one}).items():
        yield f"{title:24}{count:>10,}"
    for title, others in (
        ("true objects of classes that the model does not have", left.truth_of_other_classes),
        ("predicted ones of classes that the truth lacks", left.predicted_of_other_classes),
    ):
        if others:
            yield f"{title}:"
            yield from (f"  {_short(name):22}{count:>10,}" for name, count in others.items())


def _groups(evaluation: StoreEvaluation) -> Iterator[str]:
    """Two numbers of each subgroup; `--json` has all."""
    if evaluation.task == "semantic":
        columns = {"dice": "Dice, pooled", "mean_dice": "Dice, mean per image"}
    else:
        columns = {"ap50": "AP at 0.50, pooled", "mean_ap50": "mean per image"}
    yield f"{_short(evaluation.intervals.by or ''):17}{'images':>7}" + "".join(
        f"{title:>26}" for title in columns.values()
    )
    for group in (*evaluation.groups, evaluation.whole):
        name = "(not listed)" if group.name is None else _short(group.name, 16)
        yield f"{name:17}{group.images:>7,}" + "".join(
            f"{_score(group, column):>26}" for column in columns
        )


def _about_intervals(intervals: Intervals, units: int) -> Iterator[str]:
    unit = "images" if intervals.cluster is None else f"values of {_short(intervals.cluster)}"
    yield f"[low, high]: {intervals.level:.0%} bootstrap intervals, {units:,} {unit}"
    yield f"drawn {intervals.resamples:,} times, seed {intervals.seed}"


def _line(title: str, one: str, other: str) -> str:
    return f"{title:24}{one:>26}{other:>26}"


def _score(group: Group, name: str, class_index: int | None = None) -> str:
    one = group.scores.get((name, class_index))
    if one is None:
        return ""
    if one.low is None or one.high is None:
        return _value(one)
    return f"{one.value:.4f} [{one.low:.3f}, {one.high:.3f}]"


def _value(one: Estimate | None) -> str:
    return "-" if one is None or one.value is None else f"{one.value:.4f}"


def _short(name: str, width: int = 22) -> str:
    clean = printable(name)
    return clean if len(clean) <= width else clean[: width - 3] + "..."
