"""Decision thresholds, chosen on the validation images, and the numbers that they give."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from segpipe.segmenters.weights import read_header
from segpipe.spec import Options, parse
from segpipe.training.data import Example
from segpipe.training.evaluate import Numbers, evaluate, load
from segpipe.training.recipe import Recipe

log = logging.getLogger(__name__)


def tune(
    weights: Path, recipe: Recipe, examples: list[Example]
) -> tuple[Options, dict[str, Numbers]]:
    """The best options, and the metrics of the weights with them.

    One option after the other, in the order of `validation.tune`: the value with the best metric
    is kept, a tie going to the value that stands in the file.

    Returns:
        The options, and `<subgroup>/<precision>` -> numbers, in fp32 and bf16.
    """
    options = read_header(weights).postprocess
    grid = recipe.validation.tune
    chosen: dict[str, Any] = {}
    best = _metric(weights, recipe, examples, chosen) if grid else 0.0
    for name, values in grid.items():
        for value in values:
            if value == getattr(options, name):
                continue  # what `best` began with
            metric = _metric(weights, recipe, examples, {**chosen, name: value})
            log.info("%s = %g: metric %.4f (best so far %.4f)", name, value, metric, best)
            if metric > best:
                best, chosen = metric, {**chosen, name: value}
    tuned = parse(type(options), {**options.model_dump(), **chosen}, "tuned options")
    report = {}
    for precision in ("fp32", "bf16"):
        scores = evaluate(load(weights, "cpu", precision, chosen), examples)
        for group, numbers in scores.groups.items():
            report[f"{group}/{precision}"] = numbers
    return tuned, report


def _metric(
    weights: Path, recipe: Recipe, examples: list[Example], options: dict[str, Any]
) -> float:
    segmenter = load(weights, "auto", recipe.optimiser.precision, options)
    return evaluate(segmenter, examples).metric
