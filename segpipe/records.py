"""The words that every part of segpipe speaks: small, frozen records.

A **chunk** is a fixed list of images and the unit of everything: one Dask task, one Zarr group,
one Parquet part per table, one commit. Ids are derived, never counted, so a retry repeats them.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt

from segpipe.errors import Reason
from segpipe.geometry import Box

Pixels = npt.NDArray[Any]
"""An image as read: (H, W, C), native dtype, C is 1 or 3."""

LabelArray = npt.NDArray[np.unsignedinteger[Any]]
"""(H, W), 0 is background, 1..N are objects."""


def digest(*parts: object) -> str:
    """sha256 over the canonical JSON of `parts`: 64 lowercase hex digits."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def new_run_id(started: datetime) -> str:
    """Ids sort by the time of the start; the end tells runs of one millisecond apart."""
    return f"{started:%Y%m%dT%H%M%S}{started.microsecond // 1000:03d}Z-{secrets.token_hex(3)}"


def partition_id(run_id: str, number: int) -> str:
    """The id of a partition of a run, from 1; the first has the run's own."""
    return f"{run_id}-{number:06d}" if number > 1 else run_id


def first_partition(run_id: str) -> str:
    """The id of the run that a partition belongs to."""
    return "-".join(run_id.split("-")[:2])


@dataclass(frozen=True, slots=True)
class ImageRef:
    """One member of a collection, as listed and not yet opened.

    Attributes:
        uri: where it is, percent-encoded from the bytes of its name, so that any name makes the
            round trip: `file:///a/b%20c.png`, or `file:///a/b.zip!/c.png` for an archive member; a
            plane of a file has a fragment (see `readers.planes`).
        path: the same, relative to the collection and readable, for people and for exports;
            bytes that are not UTF-8 are percent-encoded.
        size_bytes: as listed; for an archive member, uncompressed; for the folder of an OME-Zarr,
            of all its files.
        mtime_ns: modification time as listed; for an archive member, the archive's own; for the
            folder of an OME-Zarr, of its newest file.
        refused: why it cannot be read, known already from the listing (a dangling link, an unsafe
            archive member); such an image is planned like any other and ends as a `failed` row.
        refused_detail: one sentence for people.
        etag: what tells this version of its bytes from others, as listed: of an object in a bucket
            what the storage calls it, without quotes; of the folder of an OME-Zarr a digest of what
            its files are called, and of their sizes and times. None for files, which have none.
    """

    uri: str
    path: str
    size_bytes: int
    mtime_ns: int
    refused: Reason | None = None
    refused_detail: str = ""
    etag: str | None = None

    @classmethod
    def of_row(cls, row: Mapping[str, Any]) -> ImageRef:
        """What was listed of an image, from its row of `images`; a refusal is not told there."""
        return cls(row["uri"], row["path"], row["size_bytes"], row["mtime_ns"], etag=row["etag"])

    @property
    def image_id(self) -> str:
        """24 hex digits derived from the uri: the same image in every run of every store."""
        return hashlib.sha256(self.uri.encode()).hexdigest()[:24]

    @property
    def version(self) -> tuple[str, int, int] | tuple[str, int, int, str]:
        """(uri, size, mtime), and the etag where there is one."""
        about = self.uri, self.size_bytes, self.mtime_ns
        return (*about, self.etag) if self.etag else about


@dataclass(frozen=True, slots=True)
class Chunk:
    """A fixed, ordered list of images under one spec.

    Attributes:
        generation: 0, or how often its images were tried before, so that trying them again is a
            chunk of its own.
    """

    spec_id: str
    images: tuple[ImageRef, ...]
    generation: int = 0

    @property
    def chunk_id(self) -> str:
        """32 hex digits derived from the spec, the ordered versions of the images, and the
        generation.
        """
        members = [ref.version for ref in self.images]
        again = (self.generation,) if self.generation else ()
        return digest("chunk", self.spec_id, members, *again)[:32]


@dataclass(frozen=True, slots=True)
class Header:
    """What an image file says of itself, read before any pixel is.

    Attributes:
        height, width: in pixels, in the frame that results use (after EXIF orientation).
        channels: of the pixels that `read` returns, 1 or 3.
        dtype: numpy name of the pixels that `read` returns.
        format: lower-case container format, by content: `png`, `jpeg`, `tiff`, `webp`, `bmp`...
        decoder: library and version that reads it, e.g. `pillow 13.0.0`.
        orientation: EXIF orientation found (1 where there is none or it is not 1..8).
        n_frames: frames or pages in the file; the first one is read, or that which the uri names.
        pixel_size_um: (y, x) micrometres from one pixel to the next; None where the file does not
            say, or says what cannot be believed (see `readers.tiff_pixel_size`).
    """

    height: int
    width: int
    channels: int
    dtype: str
    format: str
    decoder: str
    orientation: int = 1
    n_frames: int = 1
    pixel_size_um: tuple[float, float] | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width)."""
        return self.height, self.width

    def of_part(self, part: Box) -> Header:
        """Of a part of the image, as if it were one of its own."""
        return replace(self, height=part.height, width=part.width)


@dataclass(frozen=True, slots=True, eq=False)
class DecodedImage:
    """An image in memory.

    Attributes:
        pixels: (H, W, C) in the file's own dtype and value range; C is 1 or 3; finite.
        header: what the file said; `header.shape == pixels.shape[:2]`.
        sha256: of the file's (or archive member's) bytes; see `Reader.sha256`.
        n_nonfinite: samples that were NaN or infinite in the file and are 0 in `pixels`.
    """

    pixels: Pixels
    header: Header
    sha256: str
    n_nonfinite: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class CroppedMask:
    """One object's own pixels: a small mask and where it lies (never the size of the image).

    Attributes:
        y0, x0: position of the crop's first pixel in the image.
        mask: (h, w) bool.
    """

    y0: int
    x0: int
    mask: npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Instances:
    """Detected objects of one image, which may overlap, best score first.

    Attributes:
        masks: one `CroppedMask` per object, inside the image, each with at least one pixel.
        scores: (N,) float32 in [0, 1], descending.
        class_ids: (N,) int32.
        saturated: as many detections as the limit allowed, so some may be missing.
        n_discarded: detections without a single mask pixel, which are not objects.
    """

    masks: tuple[CroppedMask, ...]
    scores: npt.NDArray[np.float32]
    class_ids: npt.NDArray[np.int32]
    saturated: bool = False
    n_discarded: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Segmentation:
    """What one image became: the projection of its objects, and what the projection hides.

    Attributes:
        label_image: (H, W) uint32; object i of the arrays below has label i + 1. Where objects
            overlap, the best score shows.
        scores: (N,) float32 in [0, 1]; NaN where the method gives none.
        class_ids: (N,) int32.
        own_masks: label -> full mask, for exactly the objects that overlap another one.
        semantic: (H, W) uint8 class per pixel, 0 is background; None where the task has none.
        saturated, n_discarded: as in `Instances`.
    """

    label_image: npt.NDArray[np.uint32]
    scores: npt.NDArray[np.float32]
    class_ids: npt.NDArray[np.int32]
    own_masks: Mapping[int, CroppedMask] = field(default_factory=dict)
    semantic: npt.NDArray[np.uint8] | None = None
    saturated: bool = False
    n_discarded: int = 0

    @property
    def n_objects(self) -> int:
        return len(self.scores)

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width)."""
        height, width = self.label_image.shape
        return height, width


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file of a commit: its bytes are what they were when it was committed, or `fsck` says so."""

    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Commit:
    """The manifest of a finished chunk; that it exists means that the chunk is done.

    Attributes:
        attempt: names the files below; no other attempt ever uses it.
        generation: as in `Chunk`.
        masks: path relative to the store -> size and sha256 of each file of the masks.
        parts: table -> size and sha256 of its Parquet part, staged and then published.
        failures: reason -> number of images.
        seconds: of each stage (see `clock`), wall time and, as `<stage>_cores`, core seconds.
        ceilings: shape (`512x512`, height first) -> images in a batch, where the device's memory
            was too small for as many as the spec allows.
    """

    chunk_id: str
    spec_id: str
    run_id: str
    attempt: str
    n_images: int
    n_ok: int
    n_objects: int
    masks: Mapping[str, StoredFile]
    parts: Mapping[str, StoredFile]
    failures: Mapping[str, int] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)
    ceilings: Mapping[str, int] = field(default_factory=dict)
    generation: int = 0
    format_version: int = 1

    def to_json(self) -> str:
        """The manifest with the sha256 of itself, so that a flipped bit in it is found too."""
        content = asdict(self)
        return json.dumps({**content, "sha256": digest(content)}, sort_keys=True, indent=1)

    @classmethod
    def from_json(cls, text: str) -> Commit:
        """Read a manifest back.

        Raises:
            ValueError, TypeError, KeyError: it is not a manifest of this format version, or not
                the one that was written.
        """
        raw: dict[str, Any] = json.loads(text)
        if raw.get("format_version") != 1:
            raise ValueError(f"commit format version {raw.get('format_version')!r}, this reads 1")
        if raw.pop("sha256") != digest(raw):
            raise ValueError("its content does not match its own sha256")
        for files in ("masks", "parts"):
            raw[files] = {path: StoredFile(**stored) for path, stored in raw[files].items()}
        return cls(**raw)


@dataclass(frozen=True, slots=True)
class RunSummary:
    """What a run did, in numbers; `--json` prints exactly this.

    `images` counts the whole collection, `skipped` those that were committed before; `ok` and
    `failed` are of this run, so that `images == ok + failed + skipped`.
    """

    run_id: str
    store: str
    images: int
    ok: int
    failed: int
    skipped: int
    objects: int
    seconds: float
    images_per_second: float

    @property
    def failed_fraction(self) -> float:
        """Failed among the images that this run did; 0 where there was nothing to do."""
        done = self.ok + self.failed
        return self.failed / done if done else 0.0
