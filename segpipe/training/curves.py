"""The picture of a run: losses and metric over the steps, and how far the losses parted."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from segpipe.training.history import LOSS, METRIC, History

ARTICLE = 0.245, 1.467
"""Training and validation loss at the end of the run that this picture is meant to prevent: a U-Net
on the same OCT scans, whose article shows both without remarking on them."""

_TRAIN, _VAL, _THIRD = "#0072b2", "#d55e00", "#009e73"  # Okabe and Ito, told apart by all eyes


def draw_curves(history: History, title: str, out: Path, warning: str = "") -> None:
    """Write a PNG: loss over steps, metric over steps, and validation over training loss."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context({"font.size": 11, "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(13, 4.6), layout="constrained")
        losses, metric, gap = figure.subplots(1, 3, width_ratios=(3, 3, 2))
        _draw_losses(losses, history)
        _draw_metric(metric, history)
        _draw_gap(gap, history)
        figure.suptitle(title, x=0.01, ha="left", weight="bold")
        if warning:
            figure.supxlabel(warning, color=_VAL, x=0.01, ha="left", fontsize=10, wrap=True)
        figure.savefig(out, dpi=110)


def _draw_losses(axes: Any, history: History) -> None:
    axes.plot(
        *history.series("train", LOSS), color=_TRAIN, marker="o", label="training crops (varied)"
    )
    axes.plot(*history.series("val", LOSS), color=_VAL, marker="s", label="validation crops")
    axes.set(title="loss", xlabel="step", ylim=(0, None))
    axes.legend(frameon=False)


def _draw_metric(axes: Any, history: History) -> None:
    steps, values = history.series("val", METRIC)
    axes.plot(steps, values, color=_THIRD, marker="D")
    best = max(range(len(values)), key=values.__getitem__)
    axes.annotate(
        f"{values[best]:.3f}, kept",
        (steps[best], values[best]),
        (0, -16),
        textcoords="offset points",
        ha="right",
    )
    axes.set(title="metric on validation images", xlabel="step", ylim=(0, 1))


def _draw_gap(axes: Any, history: History) -> None:
    """Validation loss as a multiple of training loss: the sign of overfitting."""
    _, train = history.series("train", LOSS)
    _, val = history.series("val", LOSS)
    ours = val[-1] / train[-1] if train[-1] else math.nan
    theirs = ARTICLE[1] / ARTICLE[0]
    bars = axes.barh(["this run", "the article's run"], [ours, theirs], color=[_THIRD, "#999999"])
    labels = [
        f"{ours:.1f}x\n{val[-1]:.3f} / {train[-1]:.3f}",
        f"{theirs:.1f}x\n{ARTICLE[1]} / {ARTICLE[0]}",
    ]
    axes.bar_label(bars, labels, padding=4)
    axes.axvline(1, color="#555555", linewidth=1, linestyle=":")
    axes.set(title="validation / training loss", xlim=(0, theirs * 1.5), xticks=[])
    axes.invert_yaxis()
