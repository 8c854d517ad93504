"""What the commits of a run add up to, kept while it goes on: sums, and a line for each."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from segpipe.records import Commit


@dataclass(frozen=True, slots=True)
class ChunkResult:
    """One committed chunk of the run; `seconds` as in `Commit`."""

    chunk_id: str
    images: int
    ok: int
    objects: int
    seconds: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Outputs:
    """What the run added to the store."""

    commits: int = 0
    files: int = 0
    bytes: int = 0


class Tally:
    """The commits of a run so far. To add one costs the same however many there are.

    Attributes:
        chunks: in the order in which they were done.
        done, ok: images.
        objects: found in them.
        failures: reason -> images.
        failed_chunks: ids of the chunks in which an image failed.
    """

    def __init__(self, commits: Iterable[Commit] = ()) -> None:
        self.chunks: list[ChunkResult] = []
        self.done = self.ok = self.objects = 0
        self.failures: Counter[str] = Counter()
        self.failed_chunks: list[str] = []
        self._files = self._bytes = 0
        for commit in commits:
            self.add(commit)

    def add(self, commit: Commit) -> None:
        """Count a commit; it need not be kept."""
        counts = commit.n_images, commit.n_ok, commit.n_objects
        self.chunks.append(ChunkResult(commit.chunk_id, *counts, commit.seconds))
        self.done += commit.n_images
        self.ok += commit.n_ok
        self.objects += commit.n_objects
        self.failures.update(commit.failures)
        if commit.failures:
            self.failed_chunks.append(commit.chunk_id)
        files = (*commit.masks.values(), *commit.parts.values())
        self._files += len(files)
        self._bytes += sum(file.size for file in files)

    @property
    def seconds(self) -> dict[str, float]:
        """Of each stage, over all commits that name it."""
        return add_seconds(chunk.seconds for chunk in self.chunks)

    @property
    def outputs(self) -> Outputs:
        return Outputs(len(self.chunks), self._files, self._bytes)


def add_seconds(parts: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """The sum of each stage; one that a part does not name took none of its time."""
    total: defaultdict[str, float] = defaultdict(float)
    for part in parts:
        for stage, seconds in part.items():
            total[stage] += seconds
    return {stage: round(seconds, 6) for stage, seconds in total.items()}
