"""Nights of a small collection: real runs of a small segmenter, with their records."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from segpipe.pipeline import process_chunk
from segpipe.planner import write_plans
from segpipe.provenance.record import Device, finish_record, start_record
from segpipe.provenance.tally import Tally
from segpipe.records import RunSummary, partition_id
from segpipe.spec import RunSpec
from segpipe.store.chunk_results import write_chunk_results
from segpipe.store.files import Files
from segpipe.store.plans import read_plan
from segpipe.store.sums import seal, unseal
from tests.generated import ThresholdSegmenter

FIRST = datetime(2026, 11, 1, 3, tzinfo=UTC)
ENVIRONMENT = {
    "segpipe": "0.1.0",
    "git": None,
    "python": "3.11",
    "platform": "Linux",
    "packages": {},
}


def squares(seed: int, count: int, side: int) -> np.ndarray:
    """(64, 64) uint8: about `count` bright squares of about `side` pixels that do not touch."""
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 60, (64, 64), dtype=np.uint8)
    places = rng.permutation(16)[: max(0, count + int(rng.integers(-1, 2)))]
    for place in places:
        y, x = 16 * (place // 4), 16 * (place % 4)
        size = max(2, side + int(rng.integers(-1, 2)))
        image[y : y + size, x : x + size] = 200
    return image


class Nights:
    """Nights one after another; each finds the images that were put there before it."""

    def __init__(
        self, files: Files, images: Path, segmenter: ThresholdSegmenter | None = None
    ) -> None:
        """`segmenter` does the next night; the usual one if None."""
        self.files = files
        self.segmenter = segmenter or ThresholdSegmenter()
        self.images = images
        self.number = 0

    def add_images(
        self, count: int = 12, objects: int = 6, side: int = 6, broken: int = 0, name: str = "field"
    ) -> None:
        """New images for the next night."""
        folder = self.images / f"{self.number + 1:02d}"
        folder.mkdir(parents=True, exist_ok=True)
        for index in range(count):
            seed = 1000 * (self.number + 1) + index
            Image.fromarray(squares(seed, objects, side)).save(folder / f"{name}-{index:02d}.png")
        for index in range(broken):
            (folder / f"{name}-broken-{index}.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")

    def __call__(
        self,
        died: bool = False,
        seconds: float = 4.0,
        partition_chunks: int | None = None,
        retry: bool = False,
        device: str = "a processor",
        **changed: Any,
    ) -> list[str]:
        """One night.

        Args:
            died: nobody wrote how it ended.
            changed: fields of the records, such as `status`.

        Returns:
            Its runs.
        """
        self.number += 1
        started = FIRST + timedelta(days=self.number)
        run_id = f"{started:%Y%m%dT%H%M%S}000Z-{self.number:06x}"
        spec = RunSpec(
            source=str(self.images), store=self.files.address, chunk_images=5, retry=retry
        )
        plans = write_plans(self.files, spec, self.segmenter.spec.spec_id, run_id, partition_chunks)
        runs = [partition_id(run_id, number) for number in range(1, len(plans) + 1)]
        for run, plan in zip(runs, plans, strict=True):
            tally = Tally(
                process_chunk(chunk, self.segmenter, self.files, run)
                for chunk in read_plan(self.files, run, self.segmenter.spec.spec_id)
            )
            record = start_record(
                run, started, spec, self.segmenter.spec, environment=ENVIRONMENT,
                device=Device("cpu", device, "fp32"), threads=1, plan=plan,
            )  # fmt: skip
            if not died:
                rate = tally.done / seconds
                summary = RunSummary(
                    run, self.files.address, tally.done + plan.skipped, tally.ok,
                    tally.done - tally.ok, plan.skipped, tally.objects, seconds, rate,
                )  # fmt: skip
                started += timedelta(seconds=seconds)
                record = finish_record(record, "completed", started, tally=tally, summary=summary)
                write_chunk_results(self.files, run, record.chunks)
            self._write(run, record.to_json(), changed)
        return runs

    def _write(self, run: str, text: str, changed: Mapping[str, Any]) -> None:
        record = {**json.loads(text), **changed}
        unseal(self.files, run)
        self.files.replace(f"runs/{run}/record.json", json.dumps(record).encode())
        if record["status"] != "running":
            seal(self.files, run)
