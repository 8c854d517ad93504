"""Memory of a run over many small images: `python docs/memory.py OUT [PICTURE [IMAGES]]`.

Makes the images (20,000 of 64 x 64) in OUT/images, segments them with one worker into OUT/store,
which must not exist, and looks at the memory of each process once a second. Writes
OUT/memory.csv and the picture of the documentation, and prints a table.
"""

from __future__ import annotations

import csv
import itertools
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import matplotlib as mpl
import numpy as np
import psutil
from matplotlib.figure import Figure
from PIL import Image

import segpipe
from segpipe.execution import Progress
from segpipe.spec import RunSpec

SIDE = 64
COLOURS = {"worker": "#0072b2", "driver": "#d55e00", "Prefect server": "#009e73"}
"""Process -> colour (Okabe and Ito, told apart by all eyes)."""

MARKS = (0.1, 0.5, 1.0)
"""Shares of the images at which the table tells the memory."""


@dataclass
class Samples:
    """Resident memory over the images done, process by process."""

    done: int = 0
    rows: list[tuple[float, int, dict[str, int]]] = field(default_factory=list)

    def observe(self, progress: Progress) -> None:
        self.done = progress.done

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Inside the block a sample is taken every second."""
        stopped = threading.Event()

        def sample() -> None:
            started = time.monotonic()
            while not stopped.wait(1):
                self.rows.append((time.monotonic() - started, self.done, resident_bytes()))

        sampler = threading.Thread(target=sample)
        sampler.start()
        try:
            yield
        finally:
            stopped.set()
            sampler.join()

    def at(self, process: str, done: float) -> int:
        """Resident bytes when so many images were done; the next sample where there is none."""
        last = max((row for row in self.rows if process in row[2]), key=lambda row: row[1])
        known = (row for row in self.rows if row[1] >= done and process in row[2])
        return next(known, last)[2][process]


def main(out: Path, picture: Path, count: int) -> None:
    images = out / "images"
    make_images(images, count)
    samples = Samples()
    with samples.taken():
        spec = RunSpec(source=str(images), store=str(out / "store"), model="classical", workers=1)
        summary = segpipe.run(spec, samples.observe)
    write_csv(samples, out / "memory.csv")
    draw(samples, count, picture)
    sys.stdout.write(
        f"{summary.images:,} images, {summary.failed} failed, {summary.objects:,} objects, "
        f"{summary.images_per_second:.0f} images/s\n{table(samples, count)}"
    )


def make_images(folder: Path, count: int) -> None:
    """Some discs on a noisy ground, a thousand to a folder."""
    rng = np.random.default_rng(0)
    y, x = np.ogrid[:SIDE, :SIDE]
    for index in range(count):
        path = folder / f"{index // 1000:03d}" / f"{index:06d}.png"
        if path.exists():
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        ground = rng.integers(0, 60, (SIDE, SIDE))
        for _ in range(rng.integers(1, 6)):
            centre_y, centre_x = rng.integers(8, SIDE - 8, 2)
            disc = (y - centre_y) ** 2 + (x - centre_x) ** 2 < rng.integers(4, 8) ** 2
            ground[disc] += 150
        Image.fromarray(np.minimum(ground, 255).astype(np.uint8)).save(path)


def resident_bytes() -> dict[str, int]:
    """Of this process, which drives the run, of its Prefect server, and of the worker."""
    driver = psutil.Process()
    found = {"driver": driver.memory_info().rss}
    for child in driver.children(recursive=True):
        try:
            command, size = " ".join(child.cmdline()), child.memory_info().rss
        except psutil.Error:
            continue  # it is gone
        if "segpipe.flows.embedded" in command:
            found["Prefect server"] = size
        elif "multiprocessing.spawn" in command:
            found["worker"] = size
    return found


def write_csv(samples: Samples, path: Path) -> None:
    with path.open("w", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(["seconds", "images", *COLOURS])
        for seconds, done, sizes in samples.rows:
            lines.writerow([f"{seconds:.1f}", done, *(sizes.get(name, "") for name in COLOURS)])


def draw(samples: Samples, count: int, picture: Path) -> None:
    with mpl.rc_context({"font.size": 11, "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(9, 4.2), layout="constrained")
        axes = figure.subplots()
        top = 0.0
        for name, colour in COLOURS.items():
            points = [(done, sizes[name] / 1e6) for _, done, sizes in samples.rows if name in sizes]
            done, size = zip(*points, strict=True)
            top = max(top, *size)
            axes.plot(done, size, color=colour, linewidth=1.8)
            label = f"{name}, {size[-1]:.0f} MB"
            axes.annotate(label, points[-1], (6, 0), textcoords="offset points", color=colour,
                          va="center")  # fmt: skip
        axes.set(
            title=f"Resident memory over a run of {count:,} images ({SIDE} x {SIDE}, one worker)",
            xlabel="images done", ylabel="MB", xlim=(0, count * 1.02), ylim=(0, top * 1.15),
        )  # fmt: skip
        axes.xaxis.set_major_formatter("{x:,.0f}")
        axes.grid(axis="y", color="#dddddd")
        figure.savefig(picture, dpi=110)


def table(samples: Samples, count: int) -> str:
    head = " | ".join(f"at {share:.0%}" for share in MARKS)
    lines = [f"| MB | {head} | peak |", "|---" * (len(MARKS) + 2) + "|"]
    for name in COLOURS:
        sizes = [samples.at(name, share * count) for share in MARKS]
        peak = max(row[2].get(name, 0) for row in samples.rows)
        cells = " | ".join(f"{size / 1e6:.0f}" for size in itertools.chain(sizes, [peak]))
        lines.append(f"| {name} | {cells} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main(
        Path(sys.argv[1]),
        Path(sys.argv[2] if len(sys.argv) > 2 else "docs/images/memory.png"),
        int(sys.argv[3]) if len(sys.argv) > 3 else 20_000,
    )
