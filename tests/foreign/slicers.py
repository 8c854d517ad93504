"""segpipe beside the slicers of supervision and SAHI, on one mosaic, with one model.

    .venv/bin/python -m tests.foreign.slicers DATA [--across 6] [--side 512] [--overlap 128]

Prints a table. Each way runs in a process of its own, one after the other, with segpipe's own
libraries and, for what is not among them, those of .venv-foreign.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tests.foreign.jobs import Found, Job
from tests.foreign.looks import found_by
from tests.foreign.mosaic import Mosaic, mosaic_of
from tests.foreign.scores import Score, score
from tests.foreign.ways import SEGPIPE, WAYS, WHOLE


def _line(name: str, one: Found, own: Found, its: Score) -> str:
    per_length = 1000 * its.on_seams / its.seam if its.seam else 0.0
    cells = (
        name,
        f"{len(one.slices)}",
        f"{its.ap50:.4f}",
        f"{its.ap:.4f}",
        f"{its.agreement:.4f}",
        f"{its.objects:,}",
        f"{its.duplicates}, {its.on_seams}",
        f"{per_length:.2f}",
        f"{its.split}",
        f"{its.lost}, {its.gained}",
        f"{one.core_seconds / own.core_seconds:.2f} ({one.core_seconds:.1f} s)",
        f"{one.peak / own.peak:.2f} ({one.peak / 1e9:.2f} GB)",
    )
    return f"| {' | '.join(cells)} |"


def table(found: dict[str, Found], mosaic: Mosaic) -> str:
    """Markdown."""
    heads = (
        "", "slices", "AP50", "AP", "agreement", "objects", "duplicates, at seams",
        "per 1,000 pixels of seam", "split", "lost, gained", "core seconds", "memory",
    )  # fmt: skip
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for name, one in found.items():
        its = score(one.objects, found[WHOLE].objects, mosaic.truth, one.slices)
        lines.append(_line(name, one, found[SEGPIPE], its))
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="folder of the nuclei")
    parser.add_argument("--across", type=int, default=6, help="fields side by side")
    parser.add_argument("--side", type=int, default=512, help="of a slice, pixels")
    parser.add_argument("--overlap", type=int, default=128, help="of two slices, pixels")
    parser.add_argument("--threads", type=int, default=1, help="of torch")
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=WAYS)
    asked = parser.parse_args()
    mosaic = mosaic_of(asked.data, asked.across)
    job = Job(mosaic.pixels, asked.side, asked.overlap, asked.threads)
    found = {}
    for name in dict.fromkeys([WHOLE, SEGPIPE, *asked.ways]):
        print(name, file=sys.stderr, flush=True)
        found |= found_by([name], job, warm=True)
    print(table(found, mosaic))


if __name__ == "__main__":
    main()
