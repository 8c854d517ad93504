"""Generated collections and a small real segmenter, for tests of all that is around a model."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from skimage.measure import label

from segpipe.census import census, listing_batches
from segpipe.planning.chunks import Due, cut
from segpipe.readers.collection import list_collection
from segpipe.records import Chunk, DecodedImage, Header, ImageRef, Segmentation
from segpipe.segmenters.base import Footprint
from segpipe.spec import ClassicalOptions, ModelSpec, SegmentSpec
from segpipe.store import Snapshot

POISON = 13
"""An image of this one value kills the process that segments it."""

SPEC = SegmentSpec(
    model=ModelSpec(name="threshold", kind="classical", classes=("background", "blob")),
    options=ClassicalOptions(),
    batch_images=4,
)


class ThresholdSegmenter:
    """Connected pixels above 128 are objects; a process that meets poison is killed."""

    def __init__(self, spec: SegmentSpec = SPEC) -> None:
        self.spec = spec

    def footprint(self, header: Header) -> Footprint:
        labels = 8 * header.height * header.width
        return Footprint(waiting=labels, prepare=0, forward=2 * labels, finish=labels)

    def prepare(self, image: DecodedImage) -> np.ndarray:
        return image.pixels[..., 0]

    def forward(self, batch: Sequence[np.ndarray]) -> list[np.ndarray]:
        for plane in batch:
            if (plane == POISON).all():
                os.kill(os.getpid(), signal.SIGKILL)
        return [label(plane > 128) for plane in batch]

    def finish(self, raw: np.ndarray, image: DecodedImage) -> Segmentation:
        count = int(raw.max())
        return Segmentation(
            raw.astype(np.uint32),
            np.linspace(0.5, 1, count, dtype=np.float32),
            np.ones(count, np.int32),
        )


def blobs(seed: int, shape: tuple[int, int] = (48, 64)) -> np.ndarray:
    """Some bright rectangles on a dark ground, uint8."""
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 60, shape, dtype=np.uint8)
    for _ in range(rng.integers(0, 6)):
        y, x = rng.integers(0, shape[0]), rng.integers(0, shape[1])
        image[y : y + rng.integers(1, 12), x : x + rng.integers(1, 12)] = rng.integers(140, 256)
    return image


def make_collection(folder: Path, count: int, broken: Sequence[int] = ()) -> Path:
    """`count` images of two shapes in two sub-folders; the `broken` ones are not images."""
    for index in range(count):
        path = folder / f"{index % 2}" / f"image-{index:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        if index in broken:
            path.write_bytes(b"\x89PNG\r\n\x1a\nbroken")
        else:
            Image.fromarray(blobs(index, (48, 64) if index % 3 else (64, 48))).save(path)
    return folder


def poison(path: Path) -> None:
    Image.fromarray(np.full((48, 64), POISON, np.uint8)).save(path)


def refs(folder: Path) -> tuple[ImageRef, ...]:
    return tuple(list_collection(str(folder)))


def due_chunks(
    snapshot: Snapshot,
    size: int,
    listing: Iterable[ImageRef],
    spec_id: str = SPEC.spec_id,
    retry: bool = False,
) -> list[Chunk]:
    """The chunks that a run over this listing would do, or a retry of what failed."""
    with census(listing_batches(listing), snapshot, spec_id) as counted:
        due = counted.failed() if retry else counted.due()
        return list(cut(spec_id, size, due, counted.listed))


def failed_ids(snapshot: Snapshot, listing: Iterable[ImageRef]) -> set[str]:
    """The ids of the listed images whose newest result is a failure."""
    with census(listing_batches(listing), snapshot, SPEC.spec_id) as counted:
        return {due.ref.image_id for due in counted.failed()}


def all_of(size: int, listing: Iterable[ImageRef], spec_id: str = SPEC.spec_id) -> list[Chunk]:
    """The chunks of a listing of which nothing is done."""
    due = [Due(position, ref) for position, ref in enumerate(listing)]
    return list(cut(spec_id, size, due, len(due)))


def chunk_of(folder: Path, spec: SegmentSpec = SPEC) -> Chunk:
    return Chunk(spec.spec_id, refs(folder))
