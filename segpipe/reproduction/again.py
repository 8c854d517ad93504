"""A sample of a run's images, segmented again with the recorded spec in a store for the purpose.

The images are those of then, by their sha256; the weights are those of then, by theirs; a chunk
goes the way that every chunk goes (`pipeline.process_chunk`). What cannot be the same, such as the
version of the code, is told beside the verdict.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from segpipe.errors import InputError, Reason, SpecError
from segpipe.pipeline import process_chunk
from segpipe.provenance.environment import installed_packages
from segpipe.provenance.installed import installed_code, installed_weights, other_code
from segpipe.provenance.record import RunRecord
from segpipe.provenance.runs import read_record
from segpipe.readers import Reader
from segpipe.records import Chunk, ImageRef
from segpipe.reproduction.compare import Comparison, Outcome, compare_image
from segpipe.reproduction.sample import sample_rows
from segpipe.segmenters.base import Segmenter
from segpipe.segmenters.build import build
from segpipe.segmenters.devices import device_count
from segpipe.segmenters.weights import sha256_file
from segpipe.spec import SegmentSpec, parse
from segpipe.store import Snapshot, create_store
from segpipe.store.snapshot import Row

DECISIVE = (
    *("imagecodecs", "numba", "numpy", "opencv-contrib-python-headless", "openvino", "pillow"),
    *("pycocotools", "scikit-image", "scipy", "tifffile", "torch", "torchvision"),
)
"""Packages whose version can change a result."""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """An image of the sample that could not be compared, and why."""

    path: str
    why: str


@dataclass(frozen=True, slots=True)
class Reproduction:
    """What came of it.

    Attributes:
        images: that the run has in this store.
        seed: of the sample.
        tolerance: that was allowed.
        code: how the code differs from the run's, in a sentence; empty where it does not.
        packages: decisive ones with another version: name -> (then, now).
        compared: image by image.
        left_out: of the sample.
    """

    run_id: str
    spec_id: str
    weights_sha256: str | None
    images: int
    seed: int
    tolerance: float
    code: str
    packages: Mapping[str, tuple[str | None, str | None]]
    compared: tuple[Comparison, ...]
    left_out: tuple[LeftOut, ...]
    seconds: float

    def count(self, outcome: Outcome) -> int:
        return sum(one.outcome == outcome for one in self.compared)

    @property
    def reproduced(self) -> bool:
        """Something was compared, and nothing of it is different."""
        return bool(self.compared) and not self.count("different")

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "reproduced": self.reproduced}


def reproduce(
    snapshot: Snapshot,
    run_id: str,
    images: int,
    seed: int = 0,
    tolerance: float = 0.0,
    weights: Path | None = None,
    observe: Callable[[int, int], None] | None = None,
) -> Reproduction:
    """Segment a sample of a run again, and compare.

    Args:
        images: in the sample, at most; the same seed gives the same sample.
        tolerance: see `compare_image`.
        weights: where the weights file is; None for where the run found it.
        observe: called with how many images of the sample are done, and how many there are.

    Raises:
        SpecError: no such run or results, no such device, or the run did not segment.
        WeightsError: the weights of then are not here.
    """
    started = time.monotonic()
    record = read_record(snapshot.files, run_id)
    if record.segment_spec["model"]["kind"] == "truth":
        raise SpecError(f"run {run_id} brought in a truth: there is nothing to segment again")
    spec = parse(SegmentSpec, dict(record.segment_spec), f"the spec of run {run_id}")
    segmenter = _segmenter(record, spec, weights)
    before = snapshot.of_run(run_id)
    total, rows = sample_rows(before, run_id, images, seed)
    left_out: list[LeftOut] = []
    kept = list(_unchanged(rows, spec, left_out))
    size = int(record.run_spec.get("chunk_images", 64))
    compared: list[Comparison] = []
    with tempfile.TemporaryDirectory(prefix="segpipe-reproduce-") as scratch:
        files = create_store(scratch)
        for some in (kept[start : start + size] for start in range(0, len(kept), size)):
            chunk = Chunk(spec.spec_id, tuple(ImageRef.of_row(row) for row in some))
            process_chunk(chunk, segmenter, files, run_id)
            after = Snapshot(files).of_chunks([chunk.chunk_id])
            now = {row["image_id"]: row for row in after.image_rows()}
            compared += (
                compare_image(before, after, row, now[row["image_id"]], tolerance) for row in some
            )
            if observe:
                observe(len(compared), len(kept))
    return Reproduction(
        run_id=run_id,
        spec_id=record.spec_id,
        weights_sha256=spec.model.weights_sha256,
        images=total,
        seed=seed,
        tolerance=tolerance,
        code=other_code(record.environment, installed_code()),
        packages=_packages(record.environment.get("packages", {})),
        compared=tuple(compared),
        left_out=tuple(left_out),
        seconds=round(time.monotonic() - started, 3),
    )


def _segmenter(record: RunRecord, spec: SegmentSpec, weights: Path | None) -> Segmenter[Any, Any]:
    """The model of then, with the threads of then: on a CPU their number changes the last bits."""
    if spec.device == "cuda" and not device_count():
        raise SpecError(
            f"run {record.run_id} computed on {record.device.name}, and torch finds no CUDA "
            "device here"
        )
    path = _weights(record, spec, weights) if spec.model.weights_sha256 else None
    threads = next((kind.threads for kind in record.workers), record.threads)
    return build(spec, path, threads or None)


def _weights(record: RunRecord, spec: SegmentSpec, given: Path | None) -> Path:
    """The file with the weights of then.

    Raises:
        SpecError: there is none; names both hashes.
    """
    expected = str(spec.model.weights_sha256)
    source = str(given or installed_weights(str(record.run_spec["model"]), expected)["source"])
    path = Path(source)
    if not path.is_file():
        raise SpecError(
            f"run {record.run_id} used weights with sha256 {expected}, and {source} is no file "
            "here; --weights FILE says where they are"
        )
    found = sha256_file(path)
    if found != expected:
        raise SpecError(
            f"run {record.run_id} used weights with sha256 {expected}, and {source} has {found}; "
            "--weights FILE says where those of then are"
        )
    return path


def _unchanged(rows: Sequence[Row], spec: SegmentSpec, left_out: list[LeftOut]) -> Iterator[Row]:
    """The images that are what they were; the others are told."""
    with Reader(spec.decoding) as reader:
        for row in rows:
            if row["reason"] == Reason.WORKER_DIED:
                left_out.append(LeftOut(row["path"], "it killed the process that segmented it"))
            elif row["sha256"] is None:
                if reader.unchanged(ImageRef.of_row(row)):
                    yield row  # it could not be read, and should not be now
                else:
                    left_out.append(LeftOut(row["path"], "could not be read, and is another now"))
            else:
                try:
                    found = reader.sha256(ImageRef.of_row(row))
                except InputError as error:
                    left_out.append(LeftOut(row["path"], f"cannot be read any more: {error}"))
                    continue
                if found == row["sha256"]:
                    yield row
                else:
                    why = f"has other bytes: sha256 {row['sha256']} then, {found} now"
                    left_out.append(LeftOut(row["path"], why))


def _packages(then: Mapping[str, str]) -> dict[str, tuple[str | None, str | None]]:
    now = installed_packages()
    return {
        name: (then.get(name), now.get(name))
        for name in DECISIVE
        if then.get(name) != now.get(name)
    }
