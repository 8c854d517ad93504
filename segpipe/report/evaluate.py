"""How well a store agrees with true label images."""

from __future__ import annotations

from pathlib import Path

from segpipe.errors import SpecError
from segpipe.measure.evaluation import THRESHOLDS, Agreement, Evaluation
from segpipe.report.truth import find_truth, pair, read_truth
from segpipe.store.snapshot import Snapshot


def evaluate_store(snapshot: Snapshot, truth: Path) -> Evaluation:
    """Compare the newest result of every `ok` image with the truth of the same name.

    `pair` says which truth belongs to which image. Images without truth, and truths without an
    `ok` image, are counted.

    Args:
        truth: folder of PNG or TIFF label images, 0 is background.

    Raises:
        SpecError: nothing fits, a stem fits twice, or a truth is unreadable or of another shape.
    """
    rows = [row for row in snapshot.image_rows() if row["status"] == "ok"]
    files = find_truth(truth)
    pairs = pair(rows, files)
    if not pairs:
        raise SpecError(
            f"none of the {len(files)} label images in {truth} has the name of one of the "
            f"{len(rows)} segmented images"
        )
    agreements = []
    for row, file in pairs:
        true_labels = read_truth(file, (row["height"], row["width"]))
        agreements.append(Agreement.of(row["path"], true_labels, snapshot.label_image(row)))
    return Evaluation(
        images=tuple(agreements),
        images_without_truth=len(rows) - len(pairs),
        truth_without_image=len(files) - len(pairs),
    )


def format_evaluation(evaluation: Evaluation) -> str:
    """The evaluation as a table for people."""
    pooled = evaluation.pooled
    summary = evaluation.to_dict()["mean_per_image"]
    lines = [
        f"{'':24}{'pooled':>10}{'mean per image':>18}",
        _line("average precision", pooled.ap, summary["ap"]),
        *(
            _line(f"  at IoU {threshold:.2f}", one, mean)
            for threshold, one, mean in zip(
                THRESHOLDS, pooled.precisions, evaluation.mean_precisions, strict=True
            )
        ),
        _line("Dice of foreground", pooled.dice, summary["dice"]),
        f"{'true objects':24}{pooled.n_truth:>10,}",
        f"{'predicted objects':24}{pooled.n_predicted:>10,}",
        f"{'count error':24}{pooled.count_error:>+10,}{summary['count_error']:>+18.2f}",
        f"{'images compared':24}{len(evaluation.images):>10,}",
        f"{'images without truth':24}{evaluation.images_without_truth:>10,}",
        f"{'truths without a result':24}{evaluation.truth_without_image:>10,}",
    ]
    return "\n".join(lines)


def _line(name: str, pooled: float, mean: float) -> str:
    return f"{name:24}{pooled:>10.4f}{mean:>18.4f}"
