"""Every scenario many times over, and a table of what came of it: about an hour on two cores.

    python -m tests.faults.soak                     all
    python -m tests.faults.soak --only power        those with this in their name
    python -m tests.faults.soak --scale 0.1         a tenth of the times

Exit code 1 if a promise was broken; then the first violations are told, and their stores kept.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path

from tests.faults.scenarios.catalogue import SCENARIOS, Entry
from tests.faults.scenarios.runs import UnavailableError

TOLD = 5
"""Violations of each scenario that are told."""


def main() -> int:
    options = _options()
    chosen = [entry for entry in SCENARIOS if options.only in f"{entry.name} {entry.fault}"]
    print(f"{'fault':48}{'injected':>10}{'violations':>12}{'seconds':>9}", flush=True)
    return max(_soak(entry, options.scale, options.seed) for entry in chosen)


def _soak(entry: Entry, scale: float, seed: int) -> int:
    folder = Path(tempfile.mkdtemp(prefix=f"segpipe-soak-{entry.name}-"))
    started = time.monotonic()
    injected, violated = 0, 0
    times = max(1, round(entry.soak * scale))
    try:
        for found in entry.inject(times, random.Random(seed), folder):
            injected += 1
            violated += bool(found)
            if found and violated <= TOLD:
                print(f"  {entry.name}, number {injected}: {found}", file=sys.stderr, flush=True)
    except UnavailableError as error:
        print(f"{entry.fault:48}  not tried: {error}", flush=True)
    else:
        seconds = time.monotonic() - started
        print(f"{entry.fault:48}{injected:10,}{violated:12,}{seconds:9.0f}", flush=True)
    if violated:
        print(f"  kept: {folder}", file=sys.stderr, flush=True)
    else:
        shutil.rmtree(folder)
    return int(violated > 0)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--only", default="", help="part of a scenario's name or fault")
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
