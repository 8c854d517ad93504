"""What an archive costs beside its model, and whether that grows with the archive.

Collections of small images go through `segpipe run` with the lightest model there is, so that what
is left is everything else: listing, planning, Prefect, Dask, reading, measuring, writing,
committing. Then the same command is given again, and finds nothing to do.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from PIL import Image

from segpipe.bench.processes import peak_bytes
from segpipe.errors import SegpipeError

MODEL = "classical"

DIFFERENT = 32
"""Images of a collection that differ; the others repeat them under names of their own."""

FOLDER_IMAGES = 1000

WATCH_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class Peaks:
    """The most memory that a process of each sort took, in bytes."""

    driver: int
    worker: int


@dataclass(frozen=True, slots=True)
class Scale:
    """What a collection of a size came to.

    Attributes:
        images, objects, commits: in the store.
        files, bytes: of the store.
        whole: seconds of the whole command.
        window: seconds from the first commit to the last.
        in_window: images that were done in it.
        early, late: seconds per image in the second and in the last quarter of the chunks; None
            with fewer than eight of them.
        resume: seconds of the whole command given again.
        resume_run: of these, what the run itself took: listing, planning, recording.
    """

    images: int
    objects: int
    commits: int
    files: int
    bytes: int
    whole: float
    window: float
    in_window: int
    early: float | None
    late: float | None
    peaks: Peaks
    resume: float
    resume_run: float
    resume_peak: int

    @property
    def per_image(self) -> float:
        """Seconds per image once the work goes on; of one chunk alone, of the whole command."""
        if self.in_window:
            return self.window / self.in_window
        return self.whole / self.images


def measure(
    sizes: Sequence[int], side: int, folder: Path, observe: Callable[[str], None]
) -> list[Scale]:
    """One collection of each size, in folders below `folder`, which it leaves there.

    Args:
        sizes: images.
        side: height and width of an image, pixels.
        observe: is told what is being done.

    Raises:
        SegpipeError: a run failed.
    """
    found = []
    for images in sizes:
        place = folder / str(images)
        observe(f"making {images:,} images")
        make_images(place / "images", images, side)
        observe(f"{images:,} images: first run")
        first = run_program(place / "images", place / "store")
        observe(f"{images:,} images: nothing to do")
        again = run_program(place / "images", place / "store")
        found.append(_outcome(place / "store", first, again))
    return found


def make_images(folder: Path, images: int, side: int) -> None:
    """PNG files of `side` x `side` pixels, a few bright rectangles on a dark ground each."""
    rng = np.random.default_rng(0)
    contents = []
    for number in range(min(DIFFERENT, images)):
        pixels = rng.integers(0, 50, (side, side), dtype=np.uint8)
        for _ in range(1 + number % 4):
            y, x = rng.integers(0, 3 * side // 4, 2)
            pixels[y : y + side // 5, x : x + side // 5] += 150
        path = folder / "0000" / f"{number:07d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
        contents.append(path.read_bytes())
    for number in range(len(contents), images):
        path = folder / f"{number // FOLDER_IMAGES:04d}" / f"{number:07d}.png"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(contents[number % len(contents)])


@dataclass(frozen=True, slots=True)
class Ended:
    """A program that ended well: its seconds, its summary, its memory."""

    seconds: float
    summary: dict[str, Any]
    peaks: Peaks


def run_program(source: Path, store: Path) -> Ended:
    """`segpipe run`, as a process of its own.

    Raises:
        SegpipeError: it did not end well.
    """
    command = [sys.executable, "-m", "segpipe", "run", str(source), "--store", str(store)]
    began = time.perf_counter()
    program = subprocess.Popen(  # noqa: S603 - segpipe itself
        [*command, "--model", MODEL, "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    watched = _Watched(program.pid)
    said, errors = program.communicate()
    seconds = time.perf_counter() - began
    peaks = watched.end()
    if program.returncode:
        raise SegpipeError(f"{' '.join(command)} ended with {program.returncode}: {errors[-500:]}")
    return Ended(seconds, json.loads(said.splitlines()[-1]), peaks)


class _Watched:
    """Looks at the memory of a program and of its workers while it runs."""

    def __init__(self, pid: int) -> None:
        self._driver = psutil.Process(pid)
        self._peaks = Peaks(0, 0)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="segpipe-watch", daemon=True)
        self._thread.start()

    def end(self) -> Peaks:
        self._ended.set()
        self._thread.join()
        return self._peaks

    def _watch(self) -> None:
        while not self._ended.wait(WATCH_SECONDS):
            try:
                children = self._driver.children(recursive=True)
                workers = [peak_bytes(one) for one in children if _is_worker(one)]
                driver = peak_bytes(self._driver)
            except psutil.Error:
                continue  # one has just ended
            self._peaks = Peaks(
                max(driver, self._peaks.driver), max([*workers, self._peaks.worker])
            )


def _is_worker(process: psutil.Process) -> bool:
    """Dask's workers are what Python's multiprocessing starts."""
    return any("spawn_main" in part for part in process.cmdline())


def _outcome(store: Path, first: Ended, again: Ended) -> Scale:
    commits = sorted((store / "commits").glob("*.json"), key=lambda path: path.stat().st_mtime_ns)
    times = [path.stat().st_mtime for path in commits]
    sizes = [json.loads(path.read_bytes())["n_images"] for path in commits]
    files, size = _files_below(store)
    quarter = len(commits) // 4
    enough = quarter >= 2
    return Scale(
        images=first.summary["images"],
        objects=first.summary["objects"],
        commits=len(commits),
        files=files,
        bytes=size,
        whole=first.seconds,
        window=times[-1] - times[0],
        in_window=sum(sizes[1:]),
        early=_pace(times, sizes, quarter, 2 * quarter) if enough else None,
        late=_pace(times, sizes, len(commits) - 1 - quarter, len(commits) - 1) if enough else None,
        peaks=first.peaks,
        resume=again.seconds,
        resume_run=again.summary["seconds"],
        resume_peak=again.peaks.driver,
    )


def _pace(times: Sequence[float], sizes: Sequence[int], start: int, end: int) -> float:
    """Seconds per image from one commit to another."""
    return (times[end] - times[start]) / sum(sizes[start + 1 : end + 1])


def _files_below(folder: Path) -> tuple[int, int]:
    """(number, bytes) of the files in a folder and in all below it; a file of two names once."""
    seen: dict[tuple[int, int], int] = {}
    for root, _, names in os.walk(folder):
        for name in names:
            found = (Path(root) / name).stat()
            seen[found.st_dev, found.st_ino] = found.st_size
    return len(seen), sum(seen.values())
