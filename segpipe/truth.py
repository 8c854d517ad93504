"""A truth becomes a run of its own, with the same tables and masks: SQL, diff and exports see it.

Its images are those of the store, read again for their intensities, and its model is `truth`. It
goes the way of every chunk (`pipeline`), with an answer that comes from a file instead of a
network. `latest_images` and `latest_objects` leave it out.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from segpipe.census import listing_batches
from segpipe.errors import InputError, Reason, SpecError
from segpipe.execution import Run
from segpipe.masks.paint import paint
from segpipe.planner import plan_listing
from segpipe.progress import Progress
from segpipe.records import (
    DecodedImage,
    Header,
    ImageRef,
    Instances,
    RunSummary,
    Segmentation,
    digest,
    new_run_id,
)
from segpipe.report.coco_truth import CocoTruth
from segpipe.report.objects import TrueObjects
from segpipe.report.truth_files import Entry, TruthFiles
from segpipe.segmenters.base import Footprint
from segpipe.segmenters.catalog import ResolvedModel
from segpipe.spec import ModelSpec, RunSpec, SegmentSpec, TruthOptions, parse
from segpipe.store.leases import lease
from segpipe.store.recover import recover
from segpipe.store.snapshot import Row, Snapshot

_BYTES = 96
"""Of `finish` at its peak, for each pixel: label images of 64 bits, and masks."""


class TruthSegmenter:
    """Answers with what is known of an image, which it knows by its bytes."""

    def __init__(self, spec: SegmentSpec, truth: TruthFiles, entries: Mapping[str, Entry]) -> None:
        """
        Args:
            entries: sha256 of an image -> where its truth is.
        """
        self.spec = spec
        self._truth = truth
        self._entries = entries
        self.crowds = 0

    def footprint(self, header: Header) -> Footprint:
        return Footprint(0, 0, 0, finish=_BYTES * header.height * header.width)

    def prepare(self, image: DecodedImage) -> str:
        """
        Raises:
            InputError: the image is another one than was segmented.
        """
        if image.sha256 not in self._entries:
            raise InputError(Reason.READ_ERROR, "changed since it was segmented; segment it again")
        return image.sha256

    def forward(self, batch: Sequence[str]) -> Sequence[str]:
        return batch

    def finish(self, raw: str, image: DecodedImage) -> Segmentation:
        """The true objects; where they overlap, the smaller one shows. They have no score."""
        positions = {name: i for i, name in enumerate(self.spec.model.classes[1:])}
        known = self._truth.objects(self._entries[raw], image.header.shape, positions)
        self.crowds += sum(one.crowd for one in known.objects)
        return paint(_instances(known), image.header.shape)


def _instances(known: TrueObjects) -> Instances:
    """The smallest first, as the best come first of what was predicted."""
    single = [one for one in known.objects if not one.crowd]
    shown = [one for one in reversed(single) if one.mask.mask.any()]
    return Instances(
        tuple(one.mask for one in shown),
        np.full(len(shown), np.nan, np.float32),
        np.array([one.class_index + 1 for one in shown], np.int32),
        n_discarded=len(single) - len(shown),
    )


def import_truth(
    snapshot: Snapshot,
    truth: Sequence[Path],
    name: str = "truth",
    observe: Callable[[Progress], None] | None = None,
) -> tuple[RunSummary, int]:
    """Bring a truth into a store, as far as it is not there yet.

    Args:
        snapshot: of the store, with results of the images.
        truth: a folder of label images, paired by file stem; or COCO JSON files.
        name: `truth`, or `truth-` and more, for several truths of the same images.

    Returns:
        The summary of its run, and how many regions were left out since they are crowds, which
        COCO does not tell apart.

    Raises:
        SpecError: it fits no image of the store, or not clearly.
    """
    files = TruthFiles(truth)
    pairs, _ = files.pairs(snapshot)
    spec = _spec(name, files.coco, [entry for _, entry in pairs], truth)
    segmenter = TruthSegmenter(spec, files, _by_content(pairs))
    asked = parse(
        RunSpec,
        {"source": str(truth[0].absolute()), "store": snapshot.files.address, "model": name},
        "the truth",
    )
    summary = _run(snapshot, asked, segmenter, (ImageRef.of_row(row) for row, _ in pairs), observe)
    return summary, segmenter.crowds


def _spec(
    name: str, coco: CocoTruth | None, entries: Iterable[Entry], files: Sequence[Path]
) -> SegmentSpec:
    """Another truth is another spec, and so are the same names with another content."""
    read = files if coco else [Path(str(entry)) for entry in entries]
    hashes = [hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(set(read))]
    known = coco.class_names if coco else ("object",)
    model = {
        "name": name,
        "kind": "truth",
        "weights_sha256": digest("truth", hashes),
        "classes": ("background", *known),
    }
    return SegmentSpec(model=parse(ModelSpec, model, "the truth"), options=TruthOptions())


def _by_content(pairs: Sequence[tuple[Row, Entry]]) -> dict[str, Entry]:
    entries: dict[str, Entry] = {}
    for row, entry in pairs:
        if row["sha256"] in entries:
            raise SpecError(
                f"{entry} and {entries[row['sha256']]} are truths of images with the same bytes, "
                f"as {row['path']}; keep one of them"
            )
        entries[row["sha256"]] = entry
    return entries


def _run(
    snapshot: Snapshot,
    asked: RunSpec,
    segmenter: TruthSegmenter,
    images: Iterator[ImageRef],
    observe: Callable[[Progress], None] | None,
) -> RunSummary:
    files, spec = snapshot.files, segmenter.spec
    files.probe()
    run_id = new_run_id(datetime.now(UTC))
    with lease(files, run_id, digest("work", asked.source, spec.spec_id), None) as moved:
        clock = time.perf_counter()
        recover(files)
        batches = listing_batches(images)
        (plan,) = plan_listing(files, asked, spec.spec_id, run_id, batches)
        run = Run(run_id, asked, ResolvedModel(spec, None), files, plan, clock, moved)
        with run.recorded():
            for progress in run.process_here(segmenter):
                if observe is not None:
                    observe(progress)
        return run.summary
