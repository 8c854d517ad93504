"""Mutation fuzz of the readers: damaged files by the thousand, and what became of each.

    python -m tests.faults.fuzz                 all formats, 300 files each
    python -m tests.faults.fuzz 10000 7         10,000 files each, other ones
    python -m tests.faults.fuzz 10000 7 png     of one format

Files are made and read in a process of its own, so that a crash is seen and told like the rest.
"""

from __future__ import annotations

import json
import logging
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from segpipe.errors import InputError, SpecError
from segpipe.readers import Reader, Watchdog, list_collection
from segpipe.readers.decode import pixel_bytes
from segpipe.records import Header, ImageRef
from segpipe.spec import Limits
from tests.faults.mutate import MOST, mutated
from tests.faults.originals import originals

REPOSITORY = Path(__file__).resolve().parents[2]
LIMITS = Limits(max_pixels=1 << 18, max_file_bytes=2 * MOST, decode_seconds=2.0)
HANG_SECONDS = 20.0
"""For one file, all its members included; far beyond the time limit."""

ROOM = 32 << 20
"""Bytes of memory that any file may take, however small."""

KINDS = ("png", "jpeg", "tiff", "webp", "bmp", "pnm", "gif", "zip", "tar")


@dataclass(frozen=True, slots=True)
class Violation:
    """File number `index` (see `mutate.mutated`) did what no file may do."""

    index: int
    what: str


@dataclass(frozen=True, slots=True)
class FuzzReport:
    """`times` damaged files of one kind; `outcomes` counts images by `ok` or their reason."""

    kind: str
    times: int
    outcomes: Mapping[str, int]
    violations: tuple[Violation, ...]


def fuzz(kind: str, times: int, seed: int = 0) -> FuzzReport:
    """Damage and read `times` files of a kind of `KINDS`.

    A violation is the death of the process, more than `HANG_SECONDS`, an exception other than
    `InputError` and `SpecError`, pixels that contradict the header, a file written, or more
    memory than `ROOM` and a few times the file and its pixels.
    """
    return fuzz_files(kind, originals(kind), times, seed)


def fuzz_files(kind: str, files: Sequence[bytes], times: int, seed: int = 0) -> FuzzReport:
    """`fuzz`, from other files than those that belong to the kind."""
    outcomes: Counter[str] = Counter()
    violations: list[Violation] = []
    with tempfile.TemporaryDirectory() as folder:
        for number, data in enumerate(files):
            (Path(folder) / f"{number:03d}").write_bytes(data)
        done = 0
        while done < times:
            command = [sys.executable, "-m", "tests.faults.fuzz", "--worker", folder, kind,
                       str(seed), str(done), str(times)]  # fmt: skip
            with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE) as worker:
                for line in worker.stdout or ():
                    ends, problem = json.loads(line)
                    outcomes.update(ends)
                    violations.extend([Violation(done, problem)] if problem else [])
                    done += 1
            if worker.returncode:
                violations.append(Violation(done, _death(worker.returncode)))
                done += 1
    return FuzzReport(kind, times, dict(outcomes), tuple(violations))


def _death(status: int) -> str:
    if status == -signal.SIGALRM:
        return f"hangs for more than {HANG_SECONDS:g} s"
    return f"kills the process ({signal.Signals(-status).name if status < 0 else status})"


# The process that reads


def _work(folder: Path, kind: str, seed: str, first: int, last: int) -> None:
    """A line of JSON for each file: (how its images ended, what is wrong)."""
    files = [path.read_bytes() for path in sorted(folder.iterdir())]
    ending = {"zip": ".zip", "tar": ".tar"}.get(kind, "")
    watchdog = Watchdog()
    logging.getLogger("tifffile").disabled = True
    with tempfile.TemporaryDirectory(dir="/dev/shm") as place:
        path = Path(place) / f"file{ending}"
        for data in files:  # decoders are loaded before memory is measured
            path.write_bytes(data)
            _end_of_all(path)
        for index in range(first, last):
            path.write_bytes(mutated(files, f"{kind}/{seed}", index))
            with watchdog.watch(HANG_SECONDS):
                print(json.dumps(_examined(path)), flush=True)


def _examined(path: Path) -> tuple[list[str], str]:
    Path("/proc/self/clear_refs").write_text("5")  # peak := now
    before = _memory("VmRSS")
    try:
        ends, budget = _end_of_all(path)
    except Exception as error:  # it is what is looked for
        return [], f"{type(error).__name__}: {error}"[:300]
    grown = _memory("VmHWM") - before
    outside = [other.name for other in path.parent.iterdir() if other != path]
    if outside:
        return ends, f"writes {outside}"
    return ends, f"takes {grown:,} bytes; {budget:,} are allowed" if grown > budget else ""


def _end_of_all(path: Path) -> tuple[list[str], int]:
    """How each image in the file ended, and the memory that the costliest may take."""
    size = path.stat().st_size
    ends, pixels = [], 0
    try:
        with Reader(LIMITS) as reader:
            for ref in list_collection(str(path)):
                end, header = _end(ref, reader)
                ends.append(end)
                if header is not None:
                    size = max(size, ref.size_bytes)
                    pixels = max(pixels, pixel_bytes(header))
    except SpecError:
        ends.append("refused")
    return ends, ROOM + 6 * size + 16 * pixels


def _end(ref: ImageRef, reader: Reader) -> tuple[str, Header | None]:
    header: Header | None = None
    try:
        header = reader.header(ref)
    except InputError as error:
        refused = error
    try:
        image = reader.read(ref)
    except InputError as error:
        return error.reason, header
    if header is None:
        raise AssertionError(f"read, although its header is refused: {refused}")
    pixels = image.pixels
    stated = ((*header.shape, header.channels), header.dtype)
    if image.header != header or (pixels.shape, pixels.dtype.name) != stated:
        raise AssertionError(f"{pixels.shape} {pixels.dtype} contradict {header}")
    if not np.isfinite(pixels).all():
        raise AssertionError("pixels that are not finite")
    return "ok", header


def _memory(field: str) -> int:
    """Bytes, from the kernel's account of this process."""
    status = Path("/proc/self/status").read_text()
    return int(status.split(f"{field}:")[1].split()[0]) * 1024


def _table(times: int, seed: int, kinds: Sequence[str]) -> Iterator[str]:
    for kind in kinds:
        report = fuzz(kind, times, seed)
        ends = ", ".join(f"{end} {count:,}" for end, count in sorted(report.outcomes.items()))
        yield f"{kind:5} {report.times:>7,} files  {len(report.violations)} violations  ({ends})"
        for violation in report.violations:
            yield f"      file {violation.index}: {violation.what}"


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        _, _, where, which, number, *bounds = sys.argv
        _work(Path(where), which, number, *map(int, bounds))
    else:
        counts = [int(word) for word in sys.argv[1:] if word.isdigit()]
        wanted = [word for word in sys.argv[1:] if not word.isdigit()] or KINDS
        for row in _table(*(counts + [300, 0][len(counts) :]), wanted):
            print(row, flush=True)
