"""A model's speed alone: `forward` on prepared batches that lie in memory."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import groupby, islice
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from segpipe.bench.processes import resident_bytes
from segpipe.readers.collection import list_collection
from segpipe.readers.reader import Reader
from segpipe.segmenters.base import Segmenter
from segpipe.segmenters.build import build
from segpipe.spec import SegmentSpec

AT_MOST = 64
"""Images that are kept in memory, prepared."""

Batches = list[Sequence[Any]]


class ForwardOnly:
    """Lives in a process like a run's worker, with its allocator and its threads.

    Attributes:
        resident: bytes that the process took with the model loaded and nothing else.
    """

    def __init__(self, spec: SegmentSpec, weights: Path | None, threads: int, source: str) -> None:
        segmenter = build(spec, weights, threads)
        self.resident = resident_bytes()
        self._forward = segmenter.forward
        self._batches = list(prepared_batches(segmenter, source))
        self.run()  # The first pass is slower: libraries choose how to compute.

    def run(self) -> float:
        """Images per second of one pass over all batches.

        In a thread of its own, as in the pipeline, since OpenMP makes threads for each thread that
        calls it, and how many there are may change how they wait for each other.
        """
        with ThreadPoolExecutor(1) as thread:
            seconds = thread.submit(self._pass).result()
        return sum(map(len, self._batches)) / seconds

    def _pass(self) -> float:
        started = time.perf_counter()
        for batch in self._batches:
            self._forward(batch)
        return time.perf_counter() - started


def serve(
    pipe: Connection, spec: SegmentSpec, weights: Path | None, threads: int, source: str
) -> None:
    """Send the memory of the loaded model, and a speed for whatever is received, until the end."""
    alone = ForwardOnly(spec, weights, threads, source)
    pipe.send(alone.resident)
    with suppress(EOFError):
        while pipe.recv():
            pipe.send(alone.run())


def prepared_batches(segmenter: Segmenter[Any, Any], source: str) -> Iterator[Sequence[Any]]:
    """The first `AT_MOST` images of a collection, in batches as a run makes them.

    Raises:
        InputError: an image that cannot be read.
    """
    with Reader(segmenter.spec.limits) as reader:
        images = [reader.read(ref) for ref in islice(list_collection(source), AT_MOST)]
    images.sort(key=lambda image: image.header.shape)
    for shape, alike in groupby(images, lambda image: image.header.shape):
        prepared = [segmenter.prepare(image) for image in alike]
        size = segmenter.spec.batch_of(shape)
        yield from (prepared[i : i + size] for i in range(0, len(prepared), size))
