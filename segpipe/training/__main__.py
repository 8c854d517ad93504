"""`python -m segpipe.training RECIPE.toml --data DIR --out FILE.safetensors`.

Trains on the `train` split of DIR, measures on its `val` split, and writes one weights file.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from pathlib import Path

from segpipe.errors import SegpipeError
from segpipe.training.loop import Progress
from segpipe.training.publish import publish
from segpipe.training.recipe import read_recipe
from segpipe.training.run import fit

log = logging.getLogger("segpipe.training")


def main(arguments: list[str] | None = None) -> int:
    """The command; returns the exit code: 0 done, 2 something asked for cannot be done."""
    parser = argparse.ArgumentParser("python -m segpipe.training", description=__doc__)
    parser.add_argument("recipe", type=Path, help="TOML file; see segpipe/training/recipes")
    parser.add_argument("--data", type=Path, required=True, help="folder with index.csv")
    parser.add_argument("--out", type=Path, required=True, help="weights file to write")
    parser.add_argument("--workers", type=int, default=1, help="processes that make crops")
    args = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    try:
        recipe, text = read_recipe(args.recipe)
        network = fit(recipe, args.data, ProgressLine(recipe.optimiser.steps), args.workers)
        header = publish(network, recipe, text, args.data, args.out)
    except SegpipeError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    for group, numbers in header.training.metrics.items() if header.training else ():
        log.info("%s: %s", group, numbers)
    return 0


class ProgressLine:
    """Logs the mean losses of every 50 steps, with the time left."""

    def __init__(self, steps: int) -> None:
        self._steps = steps
        self._started = time.monotonic()
        self._sums: dict[str, float] = {}

    def __call__(self, progress: Progress) -> None:
        for name, loss in progress.losses.items():
            self._sums[name] = self._sums.get(name, 0.0) + loss
        if progress.step % 50:
            return
        seconds = (time.monotonic() - self._started) / progress.step
        losses = " ".join(f"{name} {total / 50:.4f}" for name, total in self._sums.items())
        left = (self._steps - progress.step) * seconds / 60
        log.info("step %d/%d  %s  %.0f min left", progress.step, self._steps, losses, left)
        self._sums.clear()


if __name__ == "__main__":
    sys.exit(main())
