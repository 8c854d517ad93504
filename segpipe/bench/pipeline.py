"""The whole pipeline against its model alone, and against what one would write instead.

In a round, the forward pass alone is measured before and after the run, in a worker process of its
own, so that whatever else the machine does meets both. The run is that of `segpipe run`, whole:
flow, local cluster, store. Its steady speed is counted from its first commit to its last; what
comes before the first (processes, the loading of the model, its first and slower pass) is told
apart.
"""

from __future__ import annotations

import multiprocessing
import os
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from segpipe.bench.forward_only import serve
from segpipe.bench.loops import BATCH, KINDS, LOOPS, Job, images_per_second
from segpipe.bench.processes import Watch, cores_between
from segpipe.engine import worker_environment
from segpipe.errors import InputError, SpecError
from segpipe.progress import Progress
from segpipe.provenance.tally import add_seconds
from segpipe.readers import Reader, list_collection
from segpipe.readers.names import split_uri
from segpipe.records import RunSummary
from segpipe.segmenters.catalog import ResolvedModel
from segpipe.segmenters.devices import device_count
from segpipe.spec import Limits, RunSpec, SegmentSpec
from segpipe.store import open_store
from segpipe.store.chunk_results import read_chunk_results

Run = Callable[[RunSpec, Callable[[Progress], None]], RunSummary]
"""`segpipe.run`."""

SHARE_OF_IMAGES = 4
"""A loop to compare with does a quarter of the images: it is measured without its start, too."""


@dataclass(frozen=True, slots=True)
class EndToEnd:
    """One run.

    Attributes:
        images_per_second: from the first commit to the last.
        with_first_chunk: the same from the start of the first chunk.
        whole: seconds of all of it, its store's opening and its record included.
        start: seconds until the first chunk begins: server, processes, plan and model.
        window: seconds from the first commit to the last.
        images: done in the window.
        seconds: of each stage in the window, as in `Commit`.
        cores: core seconds that all processes took in the window.
        peak: bytes of the largest worker.
    """

    images_per_second: float
    with_first_chunk: float
    whole: float
    start: float
    window: float
    images: int
    seconds: dict[str, float]
    cores: float
    peak: int


@dataclass(frozen=True, slots=True)
class Round:
    """What was measured at about the same time.

    Attributes:
        forward_only: images per second, the mean of before and after.
        against: name of a loop -> its images per second; None where it cannot run.
    """

    forward_only: float
    end_to_end: EndToEnd
    against: dict[str, float | None]

    @property
    def share(self) -> float:
        """Of the speed of the forward pass alone."""
        return self.end_to_end.images_per_second / self.forward_only


@dataclass(frozen=True, slots=True)
class Measured:
    """All rounds.

    Attributes:
        spec: what was run.
        sizes: `height x width` -> number of images.
        threads: of a forward pass, all workers together.
        workers: of a run.
        resident: bytes of a process with the model loaded.
    """

    spec: SegmentSpec
    sizes: dict[str, int]
    threads: int
    workers: int
    resident: int
    rounds: list[Round]


def measure(
    spec: RunSpec,
    model: ResolvedModel,
    rounds: int,
    against: Sequence[str] | None,
    run: Run,
    tell: Callable[[str], None],
) -> Measured:
    """Everything, `rounds` times.

    Args:
        spec: its store is put elsewhere for every run.
        model: of `spec`.
        against: names of `loops.LOOPS`; None for all, where there are loops for such a model.
        tell: is told what is measured now.

    Raises:
        SpecError: too few images for two chunks, or some of them fail.
    """
    paths, sizes = _images(spec.source, model.spec.limits)
    if len(paths) <= spec.chunk_images:
        raise SpecError(
            f"{len(paths)} images in chunks of {spec.chunk_images} are one chunk; give more images "
            "or a smaller --chunk-images, since the first chunk is not counted"
        )
    if against is None:
        against = tuple(LOOPS) if model.spec.model.kind in KINDS else ()
    threads = len(os.sched_getaffinity(0))
    found: list[Round] = []
    with _forward_only(model, threads, spec.source) as (alone, resident):
        before = alone()
        for number in range(1, rounds + 1):
            tell(f"round {number} of {rounds}: end to end")
            ran = _end_to_end(spec, run)
            tell(f"round {number} of {rounds}: forward pass alone")
            after = alone()
            speeds = {}
            for name in against:
                tell(f"round {number} of {rounds}: {name}")
                speeds[name] = _against(name, model, paths, threads)
            found.append(Round((before + after) / 2, ran, speeds))
            before = alone() if against else after
        gpus = device_count() if model.spec.device == "cuda" else 1
        workers = spec.workers or gpus  # as a run has them
        return Measured(model.spec, sizes, threads, workers, resident, found)


@contextmanager
def _forward_only(
    model: ResolvedModel, threads: int, source: str
) -> Iterator[tuple[Callable[[], float], int]]:
    """How to measure the speed of the forward pass now, and the memory of the loaded model.

    In a process with the environment of a worker, and without Dask: a cluster takes a few percent
    of a core also when it has nothing to do.
    """
    spawn = multiprocessing.get_context("spawn")
    here, there = spawn.Pipe()
    arguments = there, model.spec, model.weights_path, threads, source
    process = spawn.Process(target=serve, args=arguments)
    with worker_environment(threads):
        process.start()
    there.close()  # or nobody would notice its end
    resident = here.recv()

    def images_per_second() -> float:
        here.send("again")
        speed: float = here.recv()
        return speed

    try:
        yield images_per_second, resident
    finally:
        here.close()
        process.join()


def _end_to_end(spec: RunSpec, run: Run) -> EndToEnd:
    watch = Watch()
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        summary = run(
            spec.model_copy(update={"store": f"{folder}/store"}),
            lambda progress: watch.sample(progress.done),
        )
        whole = time.perf_counter() - started
        store = open_store(f"{folder}/store")
        (record,) = store.records()
        chunks = read_chunk_results(store.files, record["run_id"])
    if summary.failed:
        raise SpecError(f"{summary.failed} of {summary.images} images failed; none may")
    _, first, *_, last = watch.samples
    began = first.at - chunks[0].seconds["total"]
    return EndToEnd(
        images_per_second=(last.done - first.done) / (last.at - first.at),
        with_first_chunk=last.done / (last.at - began),
        whole=whole,
        start=began - started,
        window=last.at - first.at,
        images=last.done - first.done,
        seconds=add_seconds(chunk.seconds for chunk in chunks[1:]),
        cores=cores_between(first, last),
        peak=watch.peak(),
    )


def _images(source: str, limits: Limits) -> tuple[list[Path], dict[str, int]]:
    """The files of a collection, and how many there are of each size."""
    paths, sizes = [], Counter[str]()
    with Reader(limits) as reader:
        for ref in list_collection(source):
            path, member = split_uri(ref.uri)
            if member is not None:
                raise SpecError(f"{source}: loops to compare with read files, not archives")
            try:
                sizes["{} x {}".format(*reader.header(ref).shape)] += 1
            except InputError as error:
                raise SpecError(f"{ref.path}: {error}; no image may fail here") from error
            paths.append(Path(os.fsdecode(path)))
    return paths, dict(sizes)


def _against(name: str, model: ResolvedModel, paths: Sequence[Path], workers: int) -> float | None:
    """In a process of its own, which is started as a user's would be."""
    assert model.weights_path is not None
    some = paths[: max(2 * BATCH, len(paths) // SHARE_OF_IMAGES)]
    spawn = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as out, ProcessPoolExecutor(1, spawn) as process:
        job = Job(model.spec, model.weights_path, some, Path(out), workers)
        return process.submit(images_per_second, name, job).result()
