"""A small store with two runs of two models over the same images, as the viewer's tests see it."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
from PIL import Image

from segpipe.pipeline import process_chunk
from segpipe.planner import write_plans
from segpipe.provenance.record import Device, finish_record, start_record
from segpipe.provenance.tally import Tally
from segpipe.records import DecodedImage, RunSummary, Segmentation
from segpipe.spec import RunSpec, SegmentSpec
from segpipe.store import create_store
from segpipe.store.files import Files
from segpipe.store.plans import read_plan
from tests.generated import SPEC, ThresholdSegmenter
from tests.nights import ENVIRONMENT

HOSTILE = "<img src=x onerror=alert(1)>.png"
"""A file name that would be markup."""

FIRST = datetime(2026, 11, 1, 3, tzinfo=UTC)
STRICT = SPEC.model_copy(
    update={"model": SPEC.model.model_copy(update={"name": "strict"}), "batch_images": 3}
)


class TwoClasses(ThresholdSegmenter):
    """Connected bright pixels: `cell`, or `debris` below 60 pixels; `strict` drops the latter."""

    def __init__(self, spec: SegmentSpec) -> None:
        model = spec.model.model_copy(update={"classes": ("background", "cell", "debris")})
        super().__init__(spec.model_copy(update={"model": model}))

    def finish(self, raw: np.ndarray, image: DecodedImage) -> Segmentation:
        sizes = np.bincount(raw.ravel())[1:]
        keep = sizes >= (60 if self.spec.model.name == "strict" else 1)
        renumbered = np.concatenate([[0], np.cumsum(keep) * keep]).astype(np.uint32)
        sizes = sizes[keep]
        scores = np.clip(0.2 + sizes / 200, 0, 1).astype(np.float32)
        classes = np.where(sizes < 60, 2, 1).astype(np.int32)
        return Segmentation(renumbered[raw], scores, classes)


def field(seed: int) -> np.ndarray:
    """(96, 128) uint8: up to twelve bright discs of 3 to 8 pixels radius that do not touch."""
    rng = np.random.default_rng(seed)
    image = rng.integers(10, 60, (96, 128), dtype=np.uint8)
    y, x = np.mgrid[:96, :128]
    for place in rng.permutation(12)[: seed % 13]:
        centre = 16 + 32 * (place // 4), 16 + 32 * (place % 4)
        disc = (y - centre[0]) ** 2 + (x - centre[1]) ** 2 <= rng.integers(3, 9) ** 2
        image[disc] = rng.integers(150, 250)
    return image


def make_images(folder: Path, count: int = 40) -> None:
    """Fields with growing numbers of discs, one of a hostile name, and two broken files."""
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(count):
        place = folder / f"plate-{index % 2}" / f"field-{index:02d}.png"
        place.parent.mkdir(exist_ok=True)
        Image.fromarray(field(index)).save(place)
    Image.fromarray(field(5)).save(folder / HOSTILE)
    for index in range(2):
        (folder / f"broken-{index}.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")


def add_run(files: Files, images: Path, number: int, spec: SegmentSpec = SPEC) -> str:
    """A run over all images that this spec has not done; the id of it."""
    started = FIRST + timedelta(days=number)
    run_id = f"{started:%Y%m%dT%H%M%S}000Z-{number:06x}"
    segmenter = TwoClasses(spec)
    spec = segmenter.spec
    asked = RunSpec(source=str(images), store=files.address, chunk_images=16)
    (plan,) = write_plans(files, asked, spec.spec_id, run_id, None)
    tally = Tally(
        process_chunk(chunk, segmenter, files, run_id)
        for chunk in read_plan(files, run_id, spec.spec_id)
    )
    record = start_record(
        run_id, started, asked, spec, environment=ENVIRONMENT,
        device=Device("cpu", "a processor", "fp32"), threads=1, plan=plan,
    )  # fmt: skip
    summary = RunSummary(
        run_id, files.address, tally.done + plan.skipped, tally.ok, tally.done - tally.ok,
        plan.skipped, tally.objects, 4.0, tally.done / 4.0,
    )  # fmt: skip
    ended = started + timedelta(seconds=4)
    record = finish_record(record, "completed", ended, tally=tally, summary=summary)
    files.replace(f"runs/{run_id}/record.json", json.dumps(json.loads(record.to_json())).encode())
    return run_id


class Archive:
    """The store: `before` is the run of `threshold`, `after` the later one of `strict`."""

    def __init__(self, root: Path, count: int = 40) -> None:
        self.images = root / "images"
        self.store = root / "store"
        make_images(self.images, count)
        self.files = create_store(self.store)
        self.before = add_run(self.files, self.images, 1)
        self.after = add_run(self.files, self.images, 2, STRICT)
