"""What a chunk writes, and what is read back of it: masks, tables, the commit."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from segpipe.bench.timing import Timing, timed
from segpipe.demo_fields import simulate_field
from segpipe.masks.paint import from_label_image
from segpipe.measure.properties import measure_objects
from segpipe.object_rows import ObjectRows
from segpipe.records import Chunk, DecodedImage, Header, ImageRef, Segmentation
from segpipe.rows import ChunkTables
from segpipe.spec import ClassicalOptions, ModelSpec, SegmentSpec
from segpipe.store.commits import Attempt
from segpipe.store.disk import Disk
from segpipe.store.files import LocalFiles
from segpipe.store.masks import MaskStack, MaskWriter
from segpipe.store.tables import encode_part

DRAWN = 4
"""Images that are simulated, which takes a while."""

AREA_OF_AN_OBJECT = 2600
"""Pixels of an image for each of its objects: about 100 in one of 512 x 512."""

CHUNK = 64
"""Images of a chunk, and different ones of a benchmark."""

CLASSES = ("background", "nucleus")


@dataclass(frozen=True, slots=True)
class Masks:
    """Label images of one size.

    Attributes:
        write: of all images, until their files are on stable storage.
        read: of all images, one after the other.
        size: bytes on disk.
        intact: whether what was read is what was written.
    """

    images: int
    write: Timing
    read: Timing
    size: int
    intact: bool


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of `objects` to a Parquet part.

    Attributes:
        gather: measured objects to columns.
        encode: columns to bytes.
        size: bytes.
    """

    rows: int
    gather: Timing
    encode: Timing
    size: int


@dataclass(frozen=True, slots=True)
class Commits:
    """A chunk whose masks are given: from its last image to its published parts.

    Attributes:
        seconds: of that alone.
        syncs, files: of the whole attempt.
    """

    images: int
    seconds: Timing
    syncs: int
    files: int


@dataclass(frozen=True, slots=True, eq=False)
class Field:
    """An image with its objects, measured."""

    image: DecodedImage
    found: Segmentation
    measures: dict[str, Any]


def simulated_fields(size: int, images: int) -> list[Field]:
    """At most `CHUNK` square images of nuclei, always the same ones.

    After the first few they are these again, moved (what leaves on one side comes back on the
    other) and darker, so that no two have the same rows.
    """
    count = max(1, size * size // AREA_OF_AN_OBJECT)
    drawn = [
        simulate_field(np.random.default_rng(seed), (size, size), count) for seed in range(DRAWN)
    ]
    fields = []
    for number in range(min(images, CHUNK)):
        rng = np.random.default_rng(number)
        move = rng.integers(0, size, 2)
        pixels, truth = (np.roll(plane, move, (0, 1)) for plane in drawn[number % DRAWN])
        pixels = (pixels * rng.uniform(0.5, 1)).astype(pixels.dtype)
        header = Header(size, size, 1, str(pixels.dtype), "simulated", "none")
        image = DecodedImage(pixels[..., None], header, sha256="0" * 64)
        found = from_label_image(truth)
        fields.append(Field(image, found, dict(measure_objects(found, image.pixels))))
    return fields


def measure_masks(folder: Path, fields: list[Field], images: int, rounds: int) -> Masks:
    """Write stacks of `images` label images into `folder`, and read the last one back."""
    files = LocalFiles(folder)
    groups: list[str] = []
    labels = [field.found.label_image for field in fields]

    def write() -> None:
        groups.append(f"masks-{len(groups)}")
        shapes = [labels[0].shape] * images
        writer = MaskWriter(files, groups[-1], shapes, {"label_image": np.uint16})
        for index in range(images):
            writer.append({"label_image": labels[index % len(labels)]})
        writer.close()

    def read() -> Iterator[npt.NDArray[Any]]:
        stack = MaskStack(files, f"{groups[-1]}/label_image")
        return (stack.read(index, labels[0].shape) for index in range(images))

    written, back = timed(write, rounds), timed(lambda: deque(read(), maxlen=0), rounds)
    intact = all(np.array_equal(mask, labels[i % len(labels)]) for i, mask in enumerate(read()))
    return Masks(images, written, back, files.size(groups[-1]), intact)


def measure_table(fields: list[Field], rounds: int) -> Table:
    """The rows of all objects of a chunk."""
    chunk = _chunk(len(fields))
    keys = {"run_id": "run", "spec_id": chunk.spec_id, "chunk_id": chunk.chunk_id}

    def gather() -> dict[str, Any]:
        rows = ObjectRows(CLASSES)
        for index, (ref, one) in enumerate(zip(chunk.images, fields, strict=True)):
            place = {"image_id": ref.image_id, "mask_array": "masks", "mask_index": index}
            rows.add({**keys, **place}, one.found, one.measures)
        return rows.columns()

    columns = gather()
    return Table(
        rows=len(columns["label"]),
        gather=timed(gather, rounds),
        encode=timed(lambda: encode_part("objects", columns), rounds),
        size=len(encode_part("objects", columns)),
    )


def measure_commit(folder: Path, fields: list[Field], rounds: int) -> Commits:
    """Commit a chunk, in a store of its own each time."""
    disks = [_CountingDisk() for _ in range(1 + rounds)]
    ready = [
        _filled(LocalFiles(folder / f"chunk-{number}", disk), fields)
        for number, disk in enumerate(disks)
    ]
    seconds = timed(lambda: ready.pop().commit(set(), {}, {}), rounds)
    return Commits(len(fields), seconds, disks[0].syncs, disks[0].files)


def _filled(files: LocalFiles, fields: list[Field]) -> ChunkTables:
    """A chunk before its commit."""
    chunk = _chunk(len(fields))
    tables = ChunkTables(chunk, _spec(), "run", Attempt(files, chunk, "run"), np.uint16)
    tables.plan_masks([fields[0].image.header.shape] * len(fields))
    for ref, one in zip(chunk.images, fields, strict=True):
        tables.add(ref, one.image, one.found, one.measures, (0.0, 0.0, 0.0))
    return tables


def _chunk(images: int) -> Chunk:
    names = (f"{index:06}.png" for index in range(images))
    refs = tuple(ImageRef(f"file:///bench/{name}", name, 1, 1) for name in names)
    return Chunk(_spec().spec_id, refs)


def _spec() -> SegmentSpec:
    model = ModelSpec(name="bench", kind="classical", classes=CLASSES)
    return SegmentSpec(model=model, options=ClassicalOptions())


@dataclass
class _CountingDisk(Disk):
    """Counts new files and everything that waits for stable storage."""

    files: int = field(default=0)
    syncs: int = field(default=0)

    def write(self, path: Path, data: bytes) -> None:
        self.files += 1
        self.syncs += 1
        super().write(path, data)

    def overwrite(self, path: Path, data: bytes) -> None:
        self.syncs += 1
        super().overwrite(path, data)

    def sync_file(self, file: BinaryIO) -> None:
        self.syncs += 1
        super().sync_file(file)

    def sync_folder(self, path: Path) -> None:
        self.syncs += 1
        super().sync_folder(path)
